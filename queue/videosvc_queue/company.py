"""Jobs that one worker runs at once, because together they are cheaper than one after the other.

Who is next is decided as ever: the fairest job joins, or nobody does.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Protocol, runtime_checkable

from sqlalchemy.exc import SQLAlchemyError

from videosvc_queue.context import Context
from videosvc_queue.drain import Drain
from videosvc_queue.events import EventBus
from videosvc_queue.job import Claim, Job
from videosvc_queue.lease import MAX_LOSSES
from videosvc_queue.runner import BEAT_S, Handler, Outcome, run_claim
from videosvc_queue.store import Store

log = logging.getLogger(__name__)

JOIN_S = 0.25  # between two looks for a job that may join


@runtime_checkable
class SociableHandler(Protocol):
    """A handler that can run several jobs at once, each in a thread of its own."""

    most: int  # at once

    def __call__(self, job: Job, context: Context) -> Outcome: ...

    def joins(self, running: Sequence[Job], job: Job) -> bool:
        """Whether `job` had better run beside those than after them. Raises nothing."""


def run_company(
    store: Store,
    bus: EventBus,
    handler: Handler,
    sociable: SociableHandler,
    routes: Sequence[str],
    worker: str,
    *,
    drain: Drain,
    beat_s: float = BEAT_S,
    max_losses: int = MAX_LOSSES,
) -> int:
    """Takes the fairest job of `routes`, and while any runs, the next ones if they join. Returns how many it took.

    `handler`: what runs each of them, `sociable` itself or around it.
    """
    running: dict[Future[None], Job] = {}
    count = 0
    with ThreadPoolExecutor(sociable.most, "videosvc-job") as threads:
        claim = None if drain.requested else store.claim(routes, worker)
        while claim is not None or running:
            if claim is not None:
                future = threads.submit(run_claim, store, bus, handler, claim, routes, drain, beat_s, max_losses)
                running[future] = claim.job
                count += 1
            full = len(running) == sociable.most or drain.requested
            ended, _ = wait(running, None if full else 0.0 if claim else JOIN_S, FIRST_COMPLETED)
            for future in ended:
                job = running.pop(future)
                if error := future.exception():
                    log.error("job %s was let go", job.id, exc_info=error)
            claim = None
            if running and len(running) < sociable.most and not drain.requested:
                claim = _joining(store, sociable, list(running.values()), routes, worker)
    return count


def _joining(
    store: Store, sociable: SociableHandler, running: Sequence[Job], routes: Sequence[str], worker: str
) -> Claim | None:
    """The fairest job, if it is to run beside those: it slows them down, and so must be in as much of a hurry."""
    try:
        job = store.next_job(routes)
        if job is None or any(job.tier.priority > other.tier.priority for other in running):
            return None
        if not sociable.joins(running, job) or store.has_idle_worker(job.route):
            return None
        return store.claim(routes, worker, only=job.id)
    except SQLAlchemyError as error:
        log.warning("no job joins, as the database does not answer: %s", error)
        return None

"""Jobs that one worker runs at once, because together they are cheaper than one after the other.

Who is next is decided as ever: the fairest job joins, or nobody does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from functools import partial
from typing import Protocol, runtime_checkable

from sqlalchemy.exc import SQLAlchemyError

from videosvc_queue.context import Context
from videosvc_queue.drain import Drain
from videosvc_queue.events import EventBus
from videosvc_queue.job import Claim, Job
from videosvc_queue.lease import MAX_LOSSES
from videosvc_queue.nudges import Nudges
from videosvc_queue.runner import BEAT_S, Handler, Outcome, run_claim
from videosvc_queue.store import Store

log = logging.getLogger(__name__)

MOST_OTHERS = 64  # threads beside the first; the handler's limit is lower
WAIT_S = 0.25  # between two looks whether there was word of a job that may join: at no cost
JOIN_S = 2.0  # between two looks in SQL, where there was none: a worker may have gone, or a tenant's limit be free


@runtime_checkable
class SociableHandler(Protocol):
    """A handler that can run several jobs at once, each in a thread of its own."""

    most: int  # at once

    def __call__(self, job: Job, context: Context) -> Outcome: ...

    def joins(self, running: Sequence[Job], job: Job) -> bool:
        """Whether `job` had better run beside those than after them. Raises nothing."""


class Threads:
    """That jobs run in. The first one is kept from job to job: to begin and end it took 5 ms. The others end with the
    company, as OpenMP's threads stay with the thread that had them first: with more than cores they sleep at every
    barrier."""

    def __init__(self) -> None:
        self._first = ThreadPoolExecutor(1, "videosvc-job")
        self._others: ThreadPoolExecutor | None = None
        self._in_first: Future[None] | None = None

    def submit(self, run: Callable[[], None]) -> Future[None]:
        if self._in_first is None or self._in_first.done():
            self._in_first = self._first.submit(run)
            return self._in_first
        if self._others is None:
            self._others = ThreadPoolExecutor(MOST_OTHERS, "videosvc-job")
        return self._others.submit(run)

    def end_others(self) -> None:
        """Once nothing runs there."""
        if self._others is not None:
            self._others.shutdown()
            self._others = None

    def close(self) -> None:
        self.end_others()
        self._first.shutdown()


def run_company(
    store: Store,
    bus: EventBus,
    handler: Handler,
    sociable: SociableHandler,
    routes: Sequence[str],
    worker: str,
    *,
    threads: Threads,
    drain: Drain,
    beat_s: float = BEAT_S,
    max_losses: int = MAX_LOSSES,
    nudges: Nudges | None = None,
) -> int:
    """Takes the fairest job of `routes`, and while any runs, the next ones if they join. Returns how many it took.

    `handler`: what runs each of them, `sociable` itself or around it. `nudges`: None asks SQL all the time.
    """
    running: dict[Future[None], Job] = {}
    count = 0
    looked_at = float("-inf")
    with nullcontext() if nudges is None else nudges.about(*routes) as nudge:
        claim = None if drain.requested else store.claim(routes, worker)
        try:
            while claim is not None or running:
                if claim is not None:
                    how = store, bus, handler, claim, routes, drain, beat_s, max_losses, nudges
                    running[threads.submit(partial(run_claim, *how))] = claim.job
                    count += 1
                full = len(running) == sociable.most or drain.requested
                ended, _ = wait(running, None if full else 0.0 if claim else WAIT_S, FIRST_COMPLETED)
                for future in ended:
                    job = running.pop(future)
                    if error := future.exception():
                        log.error("job %s was let go", job.id, exc_info=error)
                news = nudge is None or nudge.take() or claim is not None or bool(ended)
                claim = None
                now = time.monotonic()
                room = running and len(running) < sociable.most and not drain.requested
                if room and (news or now - looked_at >= JOIN_S):
                    looked_at = now
                    claim = _joining(store, sociable, list(running.values()), routes, worker)
        finally:
            threads.end_others()
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

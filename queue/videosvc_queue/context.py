"""What a handler says and hears while its job runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from videosvc_queue.drain import Drain
from videosvc_queue.events import EventBus
from videosvc_queue.job import Beat, Claim
from videosvc_queue.nudges import Nudge
from videosvc_queue.store import Store
from videosvc_queue.tiers import Tier

log = logging.getLogger(__name__)

ASK_S = 1.0  # between two questions whether to go on, where nothing was heard: word of it may be lost, but no more
LOOK_S = 1.0  # between two looks for a job that goes first
ENDS_SOON_S = 2.0  # a job that ends so soon makes no way: to park it and go on with it costs about that


class Cancelled(Exception):
    """The tenant wants the job no more: return an Outcome CANCELLED with the charge for what ran."""


class LeaseLost(Exception):
    """The job is another worker's by now: write nothing more, anywhere."""


class MakeWay(Exception):
    """The worker stops and the job will not end in time, or a job that is in more of a hurry waits for the worker:
    save a checkpoint, then raise GiveBack."""


class GiveBack(Exception):
    """Raised by a handler: the job goes back to the queue, and another attempt goes on with it."""

    def __init__(self, wasted_s: float = 0.0) -> None:
        """`wasted_s`: compute of this attempt that will have to be done again."""
        super().__init__(f"{wasted_s} s of compute to do again")
        self.wasted_s = wasted_s


class Unfit(Exception):
    """Raised by a handler: its process can run nothing any more, and ends once its jobs are back in the queue."""


class Context:
    """One attempt at one job, until `close`. A database or Redis that does not answer stops no step: the fence guards
    the end."""

    def __init__(
        self,
        store: Store,
        bus: EventBus,
        claim: Claim,
        routes: Sequence[str],
        drain: Drain,
        nudge: Nudge | None = None,
    ) -> None:
        """`routes`: the worker's; `nudge`: about the job, without which SQL is asked at every step."""
        self.job_id = claim.job.id
        self.fence = claim.fence    # part of the place of this attempt's artifacts
        self.attempt = claim.job.attempts  # 1 for the first
        self._job = claim.job
        self._store = store
        self._bus = bus
        self._routes = routes
        self._drain = drain
        self._watch = store.watch(self.job_id, self.fence)
        self._nudge = nudge
        self._asked_at = 0.0  # SQL, whether to go on
        self._look_at = 0.0

    def check(self, remaining_s: float | None = None) -> None:
        """To be asked before every step. `remaining_s`: seconds the job still needs, if that can be told; when the
        worker is to stop, a job that ends soon enough goes on. Raises Cancelled, LeaseLost or MakeWay."""
        answer = Beat.CONTINUE
        now = time.monotonic()
        if self._nudge is None or self._nudge.take() or now - self._asked_at >= ASK_S:
            self._asked_at = now
            try:
                answer = self._watch.check()
            except SQLAlchemyError as error:
                answer = self._unanswered(error)
        self._obey(answer, remaining_s)

    def beat(
        self,
        progress: int | None = None,
        detail: dict[str, Any] | None = None,
        remaining_s: float | None = None,
    ) -> None:
        """`check` that writes as well, and always asks SQL: `progress` 0 to 100, and what `Job.detail` is from now
        on."""
        self._asked_at = time.monotonic()
        try:
            answer = self._store.beat(self.job_id, self.fence, progress=progress, detail=detail)
        except SQLAlchemyError as error:
            answer = self._unanswered(error)
        self._obey(answer, remaining_s)

    def make_way(self, remaining_s: float | None = None) -> None:
        """To be asked between two steps by an attempt that has got further than the one before, so that a job which
        is parked again and again ends all the same. Raises MakeWay if the worker is to take a job that goes first.
        """
        now = time.monotonic()
        if self._job.tier is Tier.INTERACTIVE or now < self._look_at:
            return
        self._look_at = now + LOOK_S
        if remaining_s is not None and remaining_s < ENDS_SOON_S:
            return
        try:
            if self._store.must_make_way(self._job, self._routes):
                raise MakeWay(self.job_id)
        except SQLAlchemyError as error:
            self._unanswered(error)

    def rest(self, seconds: float) -> None:
        """Waits for so long, or until the job or the worker is to stop: the job's word ends it at once, the worker's
        wish and word that was lost within ASK_S. Raises nothing."""
        until = time.monotonic() + seconds
        wait = time.sleep if self._nudge is None else self._nudge.wait
        with suppress(Cancelled, LeaseLost, MakeWay):
            while (left_s := until - time.monotonic()) > 0:
                self.check()
                wait(min(left_s, ASK_S))

    def publish(self, kind: str, data: dict[str, Any]) -> None:
        """An event for those who follow the job: plan, progress or preview; the runner tells of the end."""
        self._bus.publish(self.job_id, kind, data)

    def preview(self, image: bytes) -> None:
        """`image`: JPEG, replaces the one before."""
        self._bus.preview(self.job_id, image)

    def close(self) -> None:
        self._watch.close()

    def _unanswered(self, error: SQLAlchemyError) -> Beat:
        log.warning("job %s goes on, though the database does not answer: %s", self.job_id, error)
        return Beat.CONTINUE

    def _obey(self, answer: Beat, remaining_s: float | None) -> None:
        if answer is Beat.LOST:
            raise LeaseLost(self.job_id)
        if answer is Beat.CANCEL:
            raise Cancelled(self.job_id)
        if self._drain.requested and (remaining_s is None or remaining_s > self._drain.left_s):
            raise MakeWay(self.job_id)

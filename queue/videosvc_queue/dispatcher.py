"""From the outbox to Redis: the bells of jobs that were committed."""

from __future__ import annotations

import time
from collections import deque

from celery import Celery

from videosvc_queue.celery_app import ring
from videosvc_queue.events import EventBus
from videosvc_queue.job import Job
from videosvc_queue.store import Store
from videosvc_queue.ticker import Ticker
from videosvc_queue.tiers import Tier

MARK_S = 0.1  # between two marks in SQL that bells were rung: one for each took as long as to ring it
MOST = 100  # jobs of one mark
SWEEP_S = 1.0  # for bells that other processes wrote: jobs given back, and those of a process that died


class Dispatcher(Ticker):
    """Any number may run at once."""

    def __init__(self, store: Store, celery: Celery, bus: EventBus, every_s: float = SWEEP_S) -> None:
        super().__init__("dispatcher", self._work, every_s)
        self._store = store
        self._celery = celery
        self._bus = bus
        self._every_s = every_s
        self._submitted: deque[Job] = deque()
        self._rung: list[Job] = []
        self._swept_at = self._marked_at = float("-inf")

    def submitted(self, job: Job) -> None:
        """Call it once the job is committed; it returns at once, and the bell rings at once. Without the outbox being
        read: were this process to die now, another's sweep would find the bell there."""
        self._submitted.append(job)
        self.kick()

    def _work(self) -> bool:
        rang = bool(self._submitted)
        for _ in range(len(self._submitted)):
            job = self._submitted.popleft()
            self._ring(job.id, job.route, job.tier)
            self._rung.append(job)
        now = time.monotonic()
        if self._rung and now - self._marked_at >= MARK_S:
            self._marked_at = now
            while self._rung:
                self._store.mark_rung(self._rung[:MOST])
                del self._rung[:MOST]
        # What is to be marked soon is not to be swept up.
        if self._rung or (rang and now - self._swept_at < self._every_s):
            return rang
        self._swept_at = now
        return self.sweep() or rang

    def _pause_s(self) -> float:
        return MARK_S if self._rung else self._every_s

    def _ring(self, job_id: str, route: str, tier: Tier) -> None:
        ring(self._celery, job_id, route, tier)
        self._bus.nudge(route)  # for a worker that is busy, and might take it in beside

    def sweep(self) -> bool:
        """Rings every bell that is due; whether one was. What fails is due again in 5 s.

        Raises kombu.exceptions.OperationalError.
        """
        rung = False
        while not self.stopping and (bells := self._store.due_outbox()):
            for bell in bells:
                self._ring(bell.job_id, bell.route, bell.tier)
            # After the publishing: a crash between the two rings twice, which is harmless.
            self._store.mark_published([bell.id for bell in bells])
            rung = True
        return rung

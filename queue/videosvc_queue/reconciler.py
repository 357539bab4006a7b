"""What mends the queue: jobs of lost workers go back, and jobs whose bell was lost are rung for again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from celery import Celery

from videosvc_queue.celery_app import ring, silent_routes
from videosvc_queue.events import EventBus
from videosvc_queue.lease import MAX_LOSSES, Pulse
from videosvc_queue.store import Store
from videosvc_queue.ticker import Ticker

LEASE_S = 30.0
TICK_S = 2.0


@dataclass(frozen=True, slots=True)
class Watch:
    pulse: Pulse
    silent_s: float  # seconds of watching in which it has not changed


class Reconciler(Ticker):
    """Any number may run at once."""

    def __init__(
        self,
        store: Store,
        celery: Celery,
        bus: EventBus,
        *,
        lease_s: float = LEASE_S,
        every_s: float = TICK_S,
        max_losses: int = MAX_LOSSES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`lease_s`: silence of a worker after which its job is another's."""
        super().__init__("reconciler", self.tick, every_s)
        self._store = store
        self._celery = celery
        self._bus = bus
        self._lease_s = lease_s
        self._longest_s = 2 * every_s
        self._max_losses = max_losses
        self._clock = clock
        self._watched: dict[str, Watch] = {}
        self._looked_at: float | None = None

    def tick(self) -> None:
        """Raises sqlalchemy.exc.SQLAlchemyError or kombu.exceptions.OperationalError; the next one goes on."""
        self._end_leases()
        self._ring_where_none_waits()

    def _end_leases(self) -> None:
        for job_id, watch in self._look().items():
            if watch.silent_s >= self._lease_s:
                status = self._store.requeue(job_id, watch.pulse.fence, self._max_losses)
                if status is not None and status.terminal:
                    self._bus.publish(job_id, status, {})

    def _look(self) -> dict[str, Watch]:
        """Silence is time that was watched: when this process was stopped, or the database away, workers could not
        be heard either, and a long gap between two looks counts as a short one."""
        pulses = self._store.heartbeats()
        now = self._clock()
        passed_s = 0.0 if self._looked_at is None else min(now - self._looked_at, self._longest_s)
        self._looked_at = now
        watched = {}
        for job_id, pulse in pulses.items():
            before = self._watched.get(job_id)
            silent_s = before.silent_s + passed_s if before is not None and before.pulse == pulse else 0.0
            watched[job_id] = Watch(pulse, silent_s)
        self._watched = watched
        return watched

    def _ring_where_none_waits(self) -> None:
        """A job whose bell waits in Redis is only in need of a worker. Bells for as many as can come."""
        backlogs = self._store.rings_needed()
        silent = silent_routes(self._celery, sorted({backlog.route for backlog in backlogs}))
        for backlog in backlogs:
            if backlog.route in silent:
                workers = len(self._store.live_workers(backlog.route))
                for _ in range(min(backlog.jobs, max(workers, 1))):
                    ring(self._celery, backlog.job_id, backlog.route, backlog.tier)

"""From the outbox to Redis: the bells of jobs that were committed."""

from __future__ import annotations

from celery import Celery

from videosvc_queue.celery_app import ring
from videosvc_queue.store import Store
from videosvc_queue.ticker import Ticker

SWEEP_S = 1.0  # for bells that other processes wrote: jobs given back, and those of a process that died


class Dispatcher(Ticker):
    """Any number may run at once. Call `kick` after each submit; it returns at once."""

    def __init__(self, store: Store, celery: Celery, every_s: float = SWEEP_S) -> None:
        super().__init__("dispatcher", self.sweep, every_s)
        self._store = store
        self._celery = celery

    def sweep(self) -> bool:
        """Rings every bell that is due; whether one was. What fails is due again in 5 s.

        Raises kombu.exceptions.OperationalError.
        """
        rung = False
        while not self.stopping and (bells := self._store.due_outbox()):
            for bell in bells:
                ring(self._celery, bell.job_id, bell.route, bell.tier)
            # After the publishing: a crash between the two rings twice, which is harmless.
            self._store.mark_published([bell.id for bell in bells])
            rung = True
        return rung

"""The end of a process whose job does not end."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

SOON_S = 1e-3  # a timer set to 0 would be none


class WallLimit:
    """The kernel ends this process when one of its jobs runs over: not even a step that hangs in native code, holding
    Python's lock, gets past that. Celery's time_limit is of the bell, and that was another job's, perhaps.

    Jobs that run at once share the time, so that each may take as many times as long as there are.
    """

    def __init__(self) -> None:
        """To be made in the main thread."""
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        self._lock = threading.Lock()
        self._left_s: dict[str, float] = {}  # by job, as of `_at`
        self._at = 0.0  # of the monotonic clock

    @contextmanager
    def within(self, job_id: str, limit_s: float) -> Iterator[None]:
        """For a job that must leave before; from any thread."""
        with self._lock:
            self._pass()
            self._left_s[job_id] = limit_s
            self._set()
        try:
            yield
        finally:
            with self._lock:
                self._pass()
                del self._left_s[job_id]
                self._set()

    def _pass(self) -> None:
        """Takes the time since the last change from all who were there."""
        now = time.monotonic()
        self._left_s = {job: left_s - (now - self._at) / len(self._left_s) for job, left_s in self._left_s.items()}
        self._at = now

    def _set(self) -> None:
        soonest_s = min(self._left_s.values(), default=0.0) * len(self._left_s)
        signal.setitimer(signal.ITIMER_REAL, max(SOON_S, soonest_s) if self._left_s else 0.0)

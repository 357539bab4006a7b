"""A thread that does one thing again and again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from videosvc_queue.background import Background

log = logging.getLogger(__name__)


class Ticker(Background):
    """Calls `tick` every `every_s` seconds, and at once when kicked.

    A tick that fails is tried again at the next one: databases and servers come back. The first failure of a row is
    logged, and the end of the row. A tick that returns False had nothing to do: that ends no row of failures.
    """

    def __init__(self, name: str, tick: Callable[[], object], every_s: float) -> None:
        super().__init__(name)
        self._tick = tick
        self._every_s = every_s
        self._kicked = threading.Event()
        self._failing = False

    def stop(self) -> None:
        self._stopping.set()
        self.kick()
        super().stop()

    def kick(self) -> None:
        """Returns at once; the tick comes in its own thread."""
        self._kicked.set()

    def _run(self) -> None:
        while not self.stopping:
            try:
                if self._tick() is not False and self._failing:
                    log.warning("%s works again", self._thread.name)
                    self._failing = False
            except Exception as error:
                if not self._failing:
                    log.warning("%s fails, and goes on trying: %s", self._thread.name, error)
                self._failing = True
            self._kicked.wait(self._pause_s())
            self._kicked.clear()

    def _pause_s(self) -> float:
        """To the next tick, if nobody kicks."""
        return self._every_s

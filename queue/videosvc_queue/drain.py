"""The wish that a worker stops soon."""

from __future__ import annotations

import math
import time


class Drain:
    """Asked for from a signal handler, so without locks; read at every step."""

    def __init__(self, within_s: float = 10.0) -> None:
        """`within_s`: a job that ends within this time after the wish may end; another is given back."""
        self._within_s = within_s
        self._ends_at = math.inf

    def request(self) -> None:
        """The first time counts."""
        self._ends_at = min(self._ends_at, time.monotonic() + self._within_s)

    @property
    def requested(self) -> bool:
        return self._ends_at < math.inf

    @property
    def left_s(self) -> float:
        """Seconds; infinite as long as nobody asked."""
        return self._ends_at - time.monotonic()

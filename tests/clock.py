"""Time for tests of what happens when it has passed."""

from __future__ import annotations


class Clock:
    """Unix seconds that move when a test says so."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

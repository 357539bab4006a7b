"""The cap while a clip runs: how many steps it allows, when to land, and when to stop."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from statistics import median

from videosvc.engine.costs import CALM, GUARD, ComputeCap, Pace
from videosvc.engine.meter import ComputeReceipt, Meter
from videosvc.errors import GenerationError

RECENT = 3  # pieces whose median is the device's pace: two slow ones of three are believed, one is not
SURGE = 1.5  # how much slower still a device that has slowed already may become within one piece


class ComputeCapExceeded(GenerationError):
    """The cap came too near for even the shortest way to the end. What was spent is below it."""

    code = "compute_cap_exceeded"
    exit_code = 3

    def __init__(
        self,
        message: str,
        spent: ComputeReceipt | None = None,
        slowness: float | None = None,
    ) -> None:
        """`spent`: in all; `slowness`: see Budget."""
        super().__init__(message)
        self.spent = spent
        self.slowness = slowness

    @property
    def kept(self) -> ComputeReceipt | None:
        """The receipt of a file that has the clip up to here; None: there is none, as no chunk was done."""
        return self.spent if self.spent is not None and self.spent.frames else None


class Budget:
    """Keeps one run below its cap.

    Three rules, each looser than the one before: a step is taken if the bound of what is planned fits and leaves
    room to land on a device that slows down; the run goes on while landing is expected to fit; a piece is begun if
    the cap would be kept were the device to slow down a lot within it, and closing the file is expected to fit after
    it. All at the pace the run has shown so far.
    """

    def __init__(self, meter: Meter, cap: ComputeCap, is_full: Callable[[], bool] = lambda: True) -> None:
        """`is_full`: whether the newest piece was all that such a piece can be."""
        self.costs = cap.costs
        self._meter = meter
        self._is_full = is_full
        self._max_s = cap.max_compute_s
        self._ratios: list[float] = []  # measured over expected, of this run's pieces on the device
        self._telling_s = self._expected_s = 0.0  # of the pieces that tell how slow the device is: measured, expected

    @contextlib.contextmanager
    def piece(self, stage: str, expected_s: float, again: bool = False) -> Iterator[None]:
        """Runs and counts one piece of `stage`. Raises ComputeCapExceeded before it if that might break the cap.

        `again`: it was paid for before a resume, and is on the house now.
        """
        if not again:
            pace = self._pace()
            closing_s = SURGE * pace.now * self.costs.finish_s
            self._require(max(pace.guard * expected_s, pace.now * expected_s + closing_s))
        before = self._meter.elapsed_s
        with self._meter.stage(stage, again):
            yield
        if expected_s <= 0 or again:
            return
        took_s = self._meter.elapsed_s - before
        # A share of a forward is cheap because it is one, and so is a step that a cache skipped: the next may be alone
        # again, or computed, and no faster than expected. A prompt may be remembered.
        if took_s >= expected_s or (stage != "text" and self._is_full()):
            self._telling_s += took_s
            self._expected_s += expected_s
        if stage in ("denoise", "decode"):  # the rest waits for other things too
            ratio = took_s / expected_s
            self._ratios.append(ratio if self._is_full() else max(1.0, ratio))

    @property
    def slowness(self) -> float | None:
        """How many times as long as when the device was measured the pieces took that ran; None: that tells nothing."""
        return self.costs.slowness * self._telling_s / self._expected_s if self._telling_s > 0 else None

    @contextlib.contextmanager
    def closing(self) -> Iterator[None]:
        """Counts what gives the file its name. Never refused: all that was spent would be for nothing.

        `piece` leaves room for it; where a device slows down within the last piece, what is beyond the cap is on the
        house. Refused at a quarter of the speed, as pieces are, it cost half of the short clips on a device that became
        1.5 times slower halfway.
        """
        with self._meter.closing():
            yield

    def steps_for(self, chunk: int, wanted: int) -> int:
        """How many steps, at most `wanted` and at least one, this chunk and those after it can all have."""
        for steps in range(wanted, 1, -1):
            if self._fits(chunk, steps, steps):
                return steps
        return 1

    def allows_step(self, chunk: int, taken: int) -> bool:
        """Whether a chunk may take a step that is not its last: chunks to come must be able to have as many."""
        return self._fits(chunk, 2, taken + 2)

    def require_landing(self, chunk: int) -> None:
        """Raises ComputeCapExceeded if even one last step here, and one for each chunk to come, is too much."""
        self._require(self._pace().now * self.costs.remaining_s(chunk, 1))

    def _fits(self, chunk: int, first: int, steps: int) -> bool:
        return self._meter.total_s + self.costs.room_s(chunk, first, steps, self._pace()) <= self._max_s

    def _require(self, seconds: float) -> None:
        if self._meter.total_s + seconds > self._max_s:
            raise ComputeCapExceeded(
                f"the cap of {self._max_s:g} s of compute would be exceeded: {self._meter.total_s:.3g} s are spent "
                f"and what must come next may take {seconds:.3g} s; allow more, or ask for less"
            )

    def _pace(self) -> Pace:
        """How the device does. What it may fall to is seen from its quick moments, or it would be feared twice."""
        if not self._ratios:
            return CALM
        now = median(self._ratios[-RECENT:])
        return Pace(now, max(GUARD * min(self._ratios), SURGE * now))

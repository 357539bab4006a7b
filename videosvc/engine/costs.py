"""What each piece of a run is expected to take: all that the loop knows of the cost model."""

from __future__ import annotations

import math
from dataclasses import dataclass

# A piece is begun only if the cap would be kept were the device to fall to a quarter of its speed at once: pieces
# cannot be stopped halfway, and shared machines were seen to fall to a third within one step.
GUARD = 4.0
ROUNDING = 1e-6  # sums of the same costs in another order differ in their last bits


@dataclass(frozen=True, slots=True)
class Pace:
    """How many times as long as expected things take."""

    now: float = 1.0
    guard: float = GUARD  # any one piece, were the device to slow down within it


CALM = Pace()


@dataclass(frozen=True, slots=True)
class ChunkCosts:
    """Seconds one chunk's pieces are expected to take."""

    step_s: float
    append_s: float  # into the frame cache; 0 for the last chunk, which nothing looks back on
    decode_s: float
    mux_s: float

    @property
    def landing_s(self) -> float:
        """What comes after a chunk's last step."""
        return self.append_s + self.decode_s + self.mux_s

    def total_s(self, steps: int) -> float:
        return steps * self.step_s + self.landing_s


@dataclass(frozen=True, slots=True)
class RunCosts:
    """Seconds the pieces of a plan are expected to take, in the order they come."""

    text_s: float  # all that comes before the first chunk: the prompt, and the picture if it starts from one
    chunks: tuple[ChunkCosts, ...]
    finish_s: float
    spread: float  # 95 of 100 runs take no more than this times what was expected
    slowness: float = 1.0  # that is in all these: how many times as long as when the device was measured
    later_steps: int | None = None  # chunks after the first take no more, however many are spoken of below

    @staticmethod
    def free(chunks: int) -> RunCosts:
        """Where nothing is limited, nothing need be known."""
        return RunCosts(0.0, chunks * (ChunkCosts(0.0, 0.0, 0.0, 0.0),), 0.0, 1.0)

    def remaining_s(self, chunk: int, steps: int) -> float:
        """From the beginning of chunk number `chunk` to the end, with so many steps a chunk."""
        chunks = enumerate(self.chunks[chunk:], chunk)
        return sum(costs.total_s(self._steps_of(number, steps)) for number, costs in chunks) + self.finish_s

    def total_s(self, steps: int) -> float:
        return self.text_s + self.remaining_s(0, steps)

    def needed_s(self, steps: int) -> float:
        """The smallest cap under which a run at the expected speed is neither shortened nor stopped."""
        room_s = self.text_s + self.room_s(0, steps, steps, CALM)
        return (1 + ROUNDING) * max(GUARD * self.text_s, room_s, self.spread * self.total_s(steps))

    def room_s(self, chunk: int, first: int, steps: int, pace: Pace) -> float:
        """What must be left for `first` more steps in a chunk and `steps` in each later one.

        It holds the bound of all that comes, and at every step what landing may take.
        """
        taken_s = needed_s = 0.0
        for number, landing_s in enumerate(self._landings_s(chunk, pace), chunk):
            costs = self.chunks[number]
            taken_s += pace.now * ((first if number == chunk else self._steps_of(number, steps)) - 1) * costs.step_s
            needed_s = max(needed_s, taken_s + landing_s)
            taken_s += pace.now * costs.total_s(1)
        return max(needed_s, self.spread * (taken_s + pace.now * self.finish_s))

    def _steps_of(self, chunk: int, steps: int) -> int:
        return steps if chunk == 0 or self.later_steps is None else min(steps, self.later_steps)

    def _landings_s(self, chunk: int, pace: Pace) -> list[float]:
        """For each chunk from number `chunk` on: what its last step and all after it may take, one step a chunk."""
        rest_s = self.spread * pace.now * self.finish_s
        guarded_s = pace.guard * self.finish_s
        landings: list[float] = []
        for costs in reversed(self.chunks[chunk:]):
            for piece_s in (costs.mux_s, costs.decode_s, costs.append_s, costs.step_s):
                rest_s += self.spread * pace.now * piece_s
                guarded_s = max(pace.guard * piece_s, pace.now * piece_s + guarded_s)
            landings.append(max(rest_s, guarded_s))
        return landings[::-1]


@dataclass(frozen=True, slots=True)
class ComputeCap:
    """Seconds of compute a run must not exceed, and what its pieces are expected to take on this device."""

    max_compute_s: float
    costs: RunCosts

    @staticmethod
    def none(chunks: int) -> ComputeCap:
        """Allows everything."""
        return ComputeCap(math.inf, RunCosts.free(chunks))

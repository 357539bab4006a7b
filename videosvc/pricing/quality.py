"""How good a plan is expected to be: what `videosvc tune` measured, else an order without a scale."""

from __future__ import annotations

import math
from collections.abc import Sequence

from videosvc.config.quality import QualityTable
from videosvc.engine.plan import Plan
from videosvc.pricing.ladder import Candidate

HALF_THE_FRAMES = 0.9  # what is left of the quality, where `videosvc tune --fps` did not measure it


def qualities(candidates: Sequence[Candidate], table: QualityTable | None) -> tuple[list[float], bool]:
    """The quality of each candidate, from 0 to 1, and whether it was measured.

    Below the lowest rate measured, and everywhere if none was, half the frames count as 0.9 of the quality. Where a
    candidate has no measured point, none counts: ranks alone then tell better from worse, evenly spaced, and say
    nothing of how much.
    """
    if table is not None:
        known = [value for value in measured_qualities(candidates, table) if value is not None]
        if len(known) == len(candidates):
            return known, True
    return [1 - candidate.rank / len(candidates) for candidate in candidates], False


def measured_qualities(candidates: Sequence[Candidate], table: QualityTable) -> list[float | None]:
    """Of each candidate; None: it has no measured point."""
    lowest = table.lowest_fps or max(candidate.plan.fps for candidate in candidates)
    return [_quality(candidate.plan, table, lowest) for candidate in candidates]


def _quality(plan: Plan, table: QualityTable, lowest_fps: int) -> float | None:
    known = table.quality(plan, max(plan.fps, lowest_fps))
    if known is None or plan.fps >= lowest_fps:
        return known
    return known * math.pow(HALF_THE_FRAMES, math.log2(lowest_fps / plan.fps))

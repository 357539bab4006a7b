"""What clips save by being denoised together, as it was measured: nobody knows it from the shape of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from videosvc.config.size import Size
from videosvc.config.toml_file import Section
from videosvc.engine.plan import Plan

PAYS = 0.05  # a clip more is worth its while if each step is that much cheaper than with fewer


class BatchShare(Section):
    """One company, measured."""

    size: str
    clips: Annotated[int, Field(ge=2)]
    share: Annotated[float, Field(gt=0)]  # what a step costs each of them, where 1 is what it costs alone


def most_clips(shares: Sequence[BatchShare], plan: Plan, allowed: int) -> int:
    """As many as lower the price of clips like `plan`, and no more than `allowed`; 1 where nothing was measured."""
    best, best_share = 1, 1.0
    for one in _of_size(shares, plan):
        if one.clips <= allowed and one.share <= (1 - PAYS) * best_share:
            best, best_share = one.clips, one.share
    return best


def saved_s(shares: Sequence[BatchShare], plan: Plan, shared_s: Mapping[int, float]) -> float:
    """Seconds of compute that a run's forwards would have taken more, alone; `shared_s`: as in ComputeReceipt.

    A company of a number that was not measured is taken for the next smaller one.
    """
    measured = _of_size(shares, plan)
    saved = 0.0
    for clips, seconds in shared_s.items():
        known = [one.share for one in measured if one.clips <= clips]
        saved += seconds * (1 / known[-1] - 1) if known else 0.0
    return saved


def _of_size(shares: Sequence[BatchShare], plan: Plan) -> list[BatchShare]:
    """Those of the size that is nearest to the plan's, the smallest company first."""

    def apart(share: BatchShare) -> float:
        size = Size.parse(share.size)
        pixels, wanted = size.width * size.height, plan.width * plan.height
        return max(pixels / wanted, wanted / pixels)

    if not shares:
        return []
    nearest = min(shares, key=apart).size
    return sorted((share for share in shares if share.size == nearest), key=lambda share: share.clips)

"""Whether one way of making the same clips is worse than another, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

SURE = 0.95


@dataclass(frozen=True, slots=True)
class Paired:
    """Clips that are right or wrong in both ways: only those that differ tell the ways apart, as in McNemar's test."""

    clips: int
    lost: int  # right before, wrong after
    gained: int  # wrong before, right after

    @staticmethod
    def of(before: Sequence[bool], after: Sequence[bool]) -> Paired:
        """Raises ValueError if they are not of the same clips."""
        pairs = list(zip(before, after, strict=True))
        return Paired(len(pairs), pairs.count((True, False)), pairs.count((False, True)))

    @property
    def points(self) -> float:
        """Percentage points that were lost; below 0 if there are more right ones after."""
        return 100 * (self.lost - self.gained) / self.clips

    @property
    def interval(self) -> tuple[float, float]:
        """Where the true number of points lost lies, in 95 of 100 such benches.

        McNemar's interval with a clip more of each kind that differs (Bonett and Price 2012, "Adjusted Wald confidence
        interval for a difference of binomial proportions based on paired data"): without those, no difference among
        few clips would pass for certain, and a bootstrap of them as well.
        """
        number = self.clips + 2
        lost, gained = (self.lost + 1) / number, (self.gained + 1) / number
        middle = lost - gained
        error = math.sqrt((lost + gained - middle**2) / number)
        reach = NormalDist().inv_cdf((1 + SURE) / 2) * error
        return 100 * max(-1.0, middle - reach), 100 * min(1.0, middle + reach)

    def as_dict(self) -> dict[str, Any]:
        low, high = self.interval
        return {
            "clips": self.clips,
            "lost": self.lost,
            "gained": self.gained,
            "points_lost": round(self.points, 2),
            "interval_95": [round(low, 2), round(high, 2)],
        }

"""A quantity measured several times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Samples = dict[tuple[str, str], list[float]]  # by name and unit, a sample a round


@dataclass(frozen=True, slots=True)
class Measure:
    """One quantity, a sample a round."""

    name: str
    unit: str  # s, MiB, x (a ratio), or empty
    samples: tuple[float, ...]
    at_most: float | None = None  # what the median is held to

    @property
    def percentiles(self) -> tuple[float, float, float]:
        """p20, p50 and p80, interpolated between samples."""
        low, middle, high = np.percentile(self.samples, [20, 50, 80])
        return float(low), float(middle), float(high)

    @property
    def holds(self) -> bool | None:
        """Whether the median keeps to `at_most`; None where nothing was promised."""
        return None if self.at_most is None else self.percentiles[1] <= self.at_most

    def as_dict(self) -> dict[str, Any]:
        low, middle, high = self.percentiles
        return {
            "name": self.name,
            "unit": self.unit,
            "p20": rounded(low),
            "p50": rounded(middle),
            "p80": rounded(high),
            "at_most": self.at_most,
            "holds": self.holds,
            "rounds": len(self.samples),
            "samples": [rounded(sample) for sample in self.samples],
        }


def rounded(value: float) -> float:
    """To four digits: no measurement here is better than that."""
    return float(f"{value:.4g}")

"""The codebook that loses least on Gaussian data. Lloyd, 1957; Max, 1960."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise


@cache
def gaussian_codebook(levels: int) -> tuple[float, ...]:
    """`levels` values, ascending, that a standard normal variable is best rounded to: least mean squared error.

    At 16 levels that error is 0.0095, and an even grid's 0.0115.
    """
    values = [(2 * i + 1 - levels) * 4 / levels for i in range(levels)]
    moved = 1.0
    while moved > 1e-9:
        edges = [-math.inf, *((low + high) / 2 for low, high in pairwise(values)), math.inf]
        means = [_mean(low, high) for low, high in pairwise(edges)]
        moved = max(abs(new - old) for new, old in zip(means, values, strict=True))
        values = means
    return tuple(values)


def _mean(low: float, high: float) -> float:
    """Of a standard normal variable between the two."""
    density = math.exp(-low * low / 2) - math.exp(-high * high / 2)
    share = math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2))
    return math.sqrt(2 / math.pi) * density / share

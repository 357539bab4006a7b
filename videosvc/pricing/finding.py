"""What a sweep found out about one setting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import mean, stdev

from videosvc.config.quality import Point, Spread
from videosvc.config.size import Size
from videosvc.errors import UserError
from videosvc.pricing.rate import Rate
from videosvc.pricing.setting import Setting


@dataclass(frozen=True, slots=True)
class Finding:
    setting: Setting
    quality: float  # mean over clips, from 0 to 1
    error: float | None  # standard error of `quality`; None: of a single clip nobody knows
    compute_s: tuple[float, float, float]  # a second of the clip: 20th, 50th and 80th percentile over clips
    price_usd: Decimal  # a second of the clip, at the median

    @staticmethod
    def of(
        setting: Setting, qualities: Sequence[float], compute_s: Sequence[float], rate: Rate, counts: bool
    ) -> Finding:
        """From one value a clip, to four digits: no measurement here is better. `counts`: qualities are 0 or 1."""
        import numpy as np  # here, as targets are read on the command line

        low, middle, high = (_rounded(float(value)) for value in np.percentile(compute_s, [20, 50, 80]))
        error = standard_error(qualities, counts)
        return Finding(
            setting,
            _rounded(mean(qualities)),
            None if error is None else _rounded(error),
            (low, middle, high),
            rate.price(middle),
        )

    def point(self, rate_measured: bool, frontier: bool) -> Point:
        """For the file. `rate_measured`: rates were varied, and it does not hold for lower ones."""
        setting = self.setting
        low, middle, high = self.compute_s
        return Point(
            size=str(setting.size),
            steps=setting.steps,
            sampler=setting.sampler,
            draft_threshold=setting.draft_threshold,
            later_steps=setting.later_steps,
            weights=setting.weights,
            frame_cache=setting.frame_cache,
            fps=setting.fps if rate_measured else None,
            quality=self.quality,
            quality_error=self.error,
            compute_s=Spread(p20=low, p50=middle, p80=high),
            price_usd=_rounded(float(self.price_usd), 6),  # two that differ in the fourth digit still do
            frontier=frontier,
        )

    @staticmethod
    def of_point(point: Point, fps: int) -> Finding:
        """`fps`: where the point holds for every rate. Raises UserError (from) if it has no cost."""
        if point.compute_s is None or point.price_usd is None:
            message = (
                f"from: its point {point.size}, {point.steps} steps of {point.sampler} has no compute_s or price_usd"
            )
            raise UserError(message, param="from")
        spread = point.compute_s
        return Finding(
            Setting(
                Size.parse(point.size), point.fps or fps, point.steps, point.sampler, point.weights, point.frame_cache,
                point.draft_threshold, point.later_steps,
            ),
            point.quality,
            point.quality_error,
            (spread.p20, spread.p50, spread.p80),
            Decimal(repr(point.price_usd)),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Findings:
    """Of a whole sweep."""

    swept: tuple[Finding, ...]
    references: tuple[Finding, ...]  # the last is what qualities are held against


def standard_error(values: Sequence[float], counts: bool) -> float | None:
    """Of the mean; None of a single value, which says nothing.

    `counts`: values are 0 or 1, and it is binomial: the standard deviation of the share's Beta posterior under a flat
    prior, since ten clips of ten do not prove that every clip will be right.
    """
    number = len(values)
    if counts:
        share = (sum(values) + 1) / (number + 2)
        return math.sqrt(share * (1 - share) / (number + 3))
    return stdev(values) / math.sqrt(number) if number > 1 else None


def _rounded(value: float, digits: int = 4) -> float:
    return float(f"{value:.{digits}g}")

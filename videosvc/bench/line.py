"""A line of the waterfall: what one row comes to, round by round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from statistics import mean
from typing import Any

from videosvc.bench.clips import Made, apart
from videosvc.bench.measure import Measure, rounded
from videosvc.bench.rows import COMPARED, STOCK
from videosvc.pricing.finding import standard_error


@dataclass(slots=True)
class Line:
    """Samples are one a round, and ratios are within it. If the row was `refused` there are none."""

    name: str
    levers: Mapping[str, Any]
    refused: str | None = None
    compute_s: list[float] = field(default_factory=list)  # a second of the clip
    cheaper: list[float] = field(default_factory=list)  # stock's compute over this one's
    gain: list[float] = field(default_factory=list)  # compute of the row before over this one's
    apart: list[float] = field(default_factory=list)  # latents from those of `COMPARED`, rms, relative
    step_s: list[float] = field(default_factory=list)  # one forward with all of its past
    share: list[float] = field(default_factory=list)  # of the largest matrix product's rate, that a step reaches
    sequence_share: list[float] = field(default_factory=list)  # of the rate of all its products, one after the other
    right: list[float] = field(default_factory=list)  # 1 where the probe reads what was asked for, else 0; a clip each
    price_usd: Decimal | None = None  # a second of the clip, at the median
    decode_bytes: tuple[int | None, ...] = ()  # at its peak: of the clip, and of a longer one; None: did not fit
    cache_bytes: int | None = None  # of the frame cache at the clip's end

    @property
    def quality(self) -> float | None:
        return mean(self.right) if self.right else None

    @property
    def quality_error(self) -> float | None:
        """Standard error."""
        return standard_error(self.right, counts=True) if self.right else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON; samples are left to the measures."""
        quality, error = self.quality, self.quality_error
        return {
            "name": self.name,
            "refused": self.refused,
            "levers": dict(self.levers),
            "compute_seconds_per_second": _spread(self.compute_s),
            "cheaper_than_stock": _spread(self.cheaper),
            "gain_of_this_lever": _spread(self.gain),
            "latents_apart": _spread(self.apart),
            "step_seconds": _spread(self.step_s),
            "share_of_product_rate": _spread(self.share),
            "share_of_rate_in_sequence": _spread(self.sequence_share),
            "probe_all_four": None if quality is None else round(quality, 4),
            "probe_error": None if error is None else round(error, 4),
            "probe_clips": len(self.right),
            "price_per_second_usd": None if self.price_usd is None else rounded(float(self.price_usd)),
            "decode_peak_bytes": list(self.decode_bytes),
            "frame_cache_bytes": self.cache_bytes,
        }

    def measures(self) -> list[Measure]:
        samples = [
            ("compute a second of the clip", "s", self.compute_s),
            ("times cheaper than stock", "x", self.cheaper),
            ("gain of this lever", "x", self.gain),
            ("latents apart", "x", self.apart),
            ("a step", "s", self.step_s),
            ("share of the product's rate", "x", self.share),
            ("share of its products' rate in sequence", "x", self.sequence_share),
        ]
        return [Measure(f"{self.name}: {what}", unit, tuple(taken)) for what, unit, taken in samples if taken]


def add_round(lines: Sequence[Line], made: Mapping[str, Made], seconds: float) -> None:
    """Takes in one round: `made` by the names of the lines that are not refused. `seconds`: the clip's length."""
    stock, other = made.get(STOCK), made.get(COMPARED)
    above: Made | None = None
    compared = False
    for line in lines:
        if line.refused is not None:
            continue
        clip = made[line.name]
        line.compute_s.append(clip.compute_s / seconds)
        if above is not None:
            line.gain.append(above.compute_s / clip.compute_s)
            if stock is not None:
                line.cheaper.append(stock.compute_s / clip.compute_s)
        if other is not None and compared:
            line.apart.append(apart(clip.latents, other.latents))
        if clip.step_s is not None:
            line.step_s.append(clip.step_s)
        above, compared = clip, compared or line.name == COMPARED


def _spread(samples: Sequence[float]) -> dict[str, float] | None:
    if not samples:
        return None
    return dict(zip(("p20", "p50", "p80"), map(rounded, Measure("", "", tuple(samples)).percentiles), strict=True))

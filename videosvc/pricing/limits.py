"""What a plan must keep to: the caller's caps and the preset's own; the smaller ones count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

from videosvc.config.presets import Preset
from videosvc.errors import CapTooLow
from videosvc.pricing.cap import Cap
from videosvc.pricing.options import Option
from videosvc.pricing.rate import Rate
from videosvc.pricing.told import at_least

Amount = TypeVar("Amount", Decimal, float)


@dataclass(frozen=True, slots=True)
class Limits:
    """The field of each limit is where it came from, for the message that refuses. None is no limit."""

    usd: Decimal | None
    usd_field: str
    compute_s: float | None
    compute_field: str

    @staticmethod
    def of(cap: Cap, preset: Preset, seconds: float, calibrated: bool) -> Limits:
        """`seconds`: the clip's length. A preset's own limits count where costs are known: a guess refuses nobody."""
        own_usd, per_second = preset.cap.max_cost_usd, preset.cap.max_compute_seconds_per_second
        usd = {
            "max_cost_usd": cap.max_cost_usd,
            "preset": Decimal(repr(own_usd)) if calibrated and own_usd is not None else None,
        }
        compute_s = {
            "max_compute_seconds": cap.max_compute_s,
            "preset": per_second * seconds if calibrated and per_second is not None else None,
        }
        return Limits(*_smallest(usd), *_smallest(compute_s))

    def allow(self, option: Option) -> bool:
        return self._keeps_usd(option) and self._keeps_compute(option)

    def run_s(self, option: Option, rate: Rate) -> float | None:
        """Compute that a run of `option` may take: the limit on it, and what the one in USD buys at `rate`.

        Of that at least what it takes to run whole on a device as quick as expected. None: there is no limit.
        """
        a_second = rate.price(1.0)
        if self.usd is None or a_second == 0:
            return self.compute_s
        bought_s = max(option.needed_s, float(self.usd / a_second))
        return bought_s if self.compute_s is None else min(bought_s, self.compute_s)

    def refusal(self, options: Sequence[Option]) -> CapTooLow:
        """For when none of `options` fits: which limit is too low for the cheapest of them, and what that costs."""
        cheapest = min(options, key=lambda option: option.price_usd)
        plan = cheapest.plan
        says = f"{plan.clip_seconds:g} s at {plan.size}, {plan.fps} fps, steps: {plan.steps}"
        if self._keeps_usd(cheapest):
            field, limit = self.compute_field, f"{self.compute_s:g} s of compute"
            needs = f"{at_least(cheapest.needed_s)} s"
        else:
            field, limit, needs = self.usd_field, f"{self.usd:f} USD", f"{cheapest.price_usd:f} USD"
        if field == "preset":
            limit = f"its limit of {limit}"
        message = f"{field}: {limit} is too low; the cheapest plan ({says}) may take {needs}"
        return CapTooLow(message, field, cheapest.price_usd)

    def _keeps_usd(self, option: Option) -> bool:
        return self.usd is None or option.price_usd <= self.usd

    def _keeps_compute(self, option: Option) -> bool:
        return self.compute_s is None or option.needed_s <= self.compute_s


def _smallest(limits: Mapping[str, Amount | None]) -> tuple[Amount | None, str]:
    """The smallest limit, and the field it came from."""
    given = [(limit, field) for field, limit in limits.items() if limit is not None]
    return min(given, default=(None, ""))

"""Plans with their price tags: those a planner chooses from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol, TypeVar

from videosvc.config.models import ModelEntry
from videosvc.config.presets import Preset
from videosvc.config.quality import QualityTable
from videosvc.engine.costs import RunCosts
from videosvc.engine.plan import Plan
from videosvc.pricing.calibration import levers_of
from videosvc.pricing.cost_model import Fit
from videosvc.pricing.ladder import candidates
from videosvc.pricing.money import usd_up
from videosvc.pricing.quality import measured_qualities, qualities
from videosvc.pricing.rate import Rate


class Offer(Protocol):
    """Anything with a price and a quality."""

    @property
    def price_usd(self) -> Decimal: ...

    @property
    def quality(self) -> float: ...


OfferT = TypeVar("OfferT", bound=Offer)


@dataclass(frozen=True, slots=True)
class Option:
    """A plan and what it is worth."""

    plan: Plan
    costs: RunCosts
    compute_s: float  # expected
    bound_s: float  # 95 of 100 such jobs take no more
    price_usd: Decimal  # of the bound
    quality: float  # from 0 to 1
    allowed: bool  # may stand in for what was asked; False: an offer above it

    @property
    def needed_s(self) -> float:
        """The smallest compute cap under which it would run whole."""
        return self.costs.needed_s(self.plan.most_steps)


@dataclass(frozen=True, slots=True)
class Pricer:
    """Prices plans on one device, as it is now, at one rate."""

    fits: Mapping[str, Fit]  # by set of levers
    rate: Rate
    cold: bool
    most_usd: Decimal | None = None  # no price is above it

    def fit(self, plan: Plan) -> Fit:
        return self.fits[levers_of(plan)]

    def costs(self, plan: Plan) -> RunCosts:
        return self.fit(plan).costs(plan, self.cold)

    def price(self, bound_s: float) -> Decimal:
        price_usd = usd_up(self.rate.price(bound_s))
        return price_usd if self.most_usd is None else min(price_usd, self.most_usd)

    def price_of(self, plan: Plan) -> Decimal:
        return self.price(self.fit(plan).spread * self.costs(plan).total_s(plan.most_steps))


def price_options(
    asked: Plan, entry: ModelEntry, preset: Preset, table: QualityTable | None, pricer: Pricer
) -> tuple[tuple[Option, ...], bool]:
    """All that may stand in for `asked`, itself and what lies above it; and whether qualities were measured."""
    found = candidates(asked, entry, preset.cap.trade, pricer.fits)
    if table is not None and len(pricer.fits) > 1:
        values = zip(found, measured_qualities(found, table), strict=True)
        unknown = {levers_of(candidate.plan) for candidate, value in values if value is None}
        found = candidates(asked, entry, preset.cap.trade, pricer.fits.keys() - unknown)
    quality, measured = qualities(found, table)
    # The same for any number of steps: costs, their sum without any step, a step of the first chunk, one of each later.
    known: dict[tuple[int, int, int, str], tuple[RunCosts, float, float, float, float]] = {}
    options = []
    for candidate, expected in zip(found, quality, strict=True):
        plan = candidate.plan
        key = (plan.width, plan.height, plan.fps, levers_of(plan))
        if key not in known:
            costs = pricer.costs(plan)
            first_s, *later_s = (chunk.step_s for chunk in costs.chunks)
            known[key] = costs, costs.total_s(0), first_s, sum(later_s), pricer.fit(plan).spread
        costs, fixed_s, first_step_s, later_step_s, spread = known[key]
        compute_s = fixed_s + plan.most_steps * first_step_s + plan.steps_of(1) * later_step_s
        bound_s = spread * compute_s
        options.append(Option(plan, costs, compute_s, bound_s, pricer.price(bound_s), expected, candidate.allowed))
    return tuple(options), measured


def frontier(options: Iterable[OfferT]) -> list[OfferT]:
    """Those to which no other is both cheaper and at least as good, the cheapest first."""
    kept: list[OfferT] = []
    for option in sorted(options, key=lambda option: (option.price_usd, -option.quality)):
        if not kept or option.quality > kept[-1].quality:
            kept.append(option)
    return kept

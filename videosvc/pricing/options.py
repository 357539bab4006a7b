"""Plans with their price tags: those a planner chooses from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol, TypeVar

from videosvc.config.models import ModelEntry
from videosvc.config.presets import Preset
from videosvc.config.quality import QualityTable
from videosvc.engine.costs import RunCosts
from videosvc.engine.plan import Plan
from videosvc.pricing.cost_model import Fit
from videosvc.pricing.ladder import candidates
from videosvc.pricing.money import usd_up
from videosvc.pricing.quality import qualities
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

    fit: Fit
    rate: Rate
    cold: bool

    def costs(self, plan: Plan) -> RunCosts:
        return self.fit.costs(plan, self.cold)

    def price(self, compute_s: float) -> Decimal:
        """USD for the bound of so much expected compute."""
        return usd_up(self.rate.price(self.fit.spread * compute_s))

    def price_of(self, plan: Plan) -> Decimal:
        return self.price(self.costs(plan).total_s(plan.most_steps))


def price_options(
    asked: Plan, entry: ModelEntry, preset: Preset, table: QualityTable | None, pricer: Pricer
) -> tuple[tuple[Option, ...], bool]:
    """All that may stand in for `asked`, itself and what lies above it; and whether qualities were measured."""
    found = candidates(asked, entry, preset.cap.trade)
    quality, measured = qualities(found, table)
    known: dict[tuple[int, int, int], tuple[RunCosts, float, float]] = {}  # the same for any number of steps
    options = []
    for candidate, expected in zip(found, quality, strict=True):
        plan = candidate.plan
        key = (plan.width, plan.height, plan.fps)
        if key not in known:
            costs = pricer.costs(plan)
            known[key] = costs, costs.total_s(0), sum(chunk.step_s for chunk in costs.chunks)
        costs, fixed_s, step_s = known[key]
        compute_s = fixed_s + plan.most_steps * step_s
        options.append(Option(plan, costs, compute_s, pricer.price(compute_s), expected, candidate.allowed))
    return tuple(options), measured


def frontier(options: Iterable[OfferT]) -> list[OfferT]:
    """Those to which no other is both cheaper and at least as good, the cheapest first."""
    kept: list[OfferT] = []
    for option in sorted(options, key=lambda option: (option.price_usd, -option.quality)):
        if not kept or option.quality > kept[-1].quality:
            kept.append(option)
    return kept

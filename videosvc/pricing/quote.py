"""A quote: the plan that will run, and the most that it will be charged at."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from videosvc.engine.plan import Plan
from videosvc.pricing.money import usd, usd_up
from videosvc.pricing.rate import Rate

LIFETIME_S = 600.0  # seconds that a quote binds


@dataclass(frozen=True, slots=True)
class Trade:
    """One thing given up for the cap."""

    what: str  # size, steps, fps, weights or frame_cache
    before: str | int
    after: str | int
    saves_usd: Decimal

    def as_dict(self) -> dict[str, Any]:
        """An entry of `traded` in the public contract."""
        return {"what": self.what, "from": self.before, "to": self.after, "saves_usd": float(self.saves_usd)}


@dataclass(frozen=True, slots=True)
class Saving:
    """Compute that one lever saves against the reference preset at the size, fps and length asked for."""

    name: str  # steps, size, fps, weights, frame_cache, ...
    saved_s: float  # as predicted; below zero if it costs more


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another point of the frontier: no other plan is both cheaper and better."""

    size: str
    steps: int
    fps: int
    price_usd: Decimal
    compute_s: float
    quality: float  # from 0 to 1
    weights: str = "native"
    frame_cache: str = "native"

    def as_dict(self) -> dict[str, Any]:
        """An entry of `alternatives` in the public contract."""
        return {
            "size": self.size,
            "steps": self.steps,
            "fps": self.fps,
            "weights": self.weights,
            "frame_cache": self.frame_cache,
            "price_usd": float(self.price_usd),
            "compute_seconds": round(self.compute_s, 4),
            "expected_quality": round(self.quality, 4),
        }


@dataclass(frozen=True, slots=True)
class Quote:
    """Binding until it expires: no more than `price_usd` is charged."""

    id: str  # "quote_" and 24 URL-safe characters
    expires_at: float  # Unix seconds
    preset: str
    plan: Plan  # as it will run
    rate: Rate  # what its seconds are sold at
    price_usd: Decimal  # of `bound_s`
    compute_s: float  # expected
    bound_s: float  # 95 of 100 such jobs take no more
    eta_s: float  # until it is done if it takes its bound, waiting included
    max_compute_s: float | None  # the run must not take more; see Limits.run_s
    quality: float  # expected, from 0 to 1
    quality_measured: bool  # False: a stand-in that only puts plans in order
    calibrated: bool  # False: costs are a careful guess, as this device was never measured
    baseline_s: float  # compute the reference preset would take
    savings: tuple[Saving, ...]
    traded: tuple[Trade, ...]
    alternatives: tuple[Alternative, ...]
    tier_prices: Mapping[str, Decimal] = field(default_factory=dict)  # of the same plan; older quotes have none

    @staticmethod
    def new_id() -> str:
        return "quote_" + secrets.token_urlsafe(18)

    @property
    def price_per_second_usd(self) -> Decimal:
        """A second of the clip."""
        return usd_up(self.price_usd / Decimal(repr(self.plan.clip_seconds)))

    def plan_as_dict(self) -> dict[str, Any]:
        """The `plan` object of the public contract, `traded` filled in."""
        return {**self.plan.as_dict(), "traded": [trade.as_dict() for trade in self.traded]}

    def as_dict(self) -> dict[str, Any]:
        """The `quote` object of the public contract."""
        return {
            "id": self.id,
            "object": "quote",
            "expires_at": int(self.expires_at),
            "model": self.plan.model,
            "preset": self.preset,
            "tier": self.rate.tier,
            "seconds": self.plan.clip_seconds,
            "price_usd": float(self.price_usd),
            "price_per_second_usd": float(self.price_per_second_usd),
            "tier_prices_usd": {tier: float(price) for tier, price in self.tier_prices.items()},
            "compute_seconds": round(self.compute_s, 4),
            "compute_seconds_bound": round(self.bound_s, 4),
            "eta_seconds": round(self.eta_s, 1),
            "device": self.rate.device,
            "device_usd_per_hour": float(self.rate.usd_per_hour),
            "expected_quality": round(self.quality, 4),
            "quality_measured": self.quality_measured,
            "calibrated": self.calibrated,
            "plan": self.plan_as_dict(),
            "alternatives": [alternative.as_dict() for alternative in self.alternatives],
            "traded": [trade.as_dict() for trade in self.traded],
        }

    def fields(self) -> dict[str, Any]:
        """Everything in it, for JSON in a job's payload; money as text. `parse` makes the same quote of it."""
        return {
            **_shallow(self),
            "plan": self.plan.fields(),
            "rate": self.rate.fields(),
            "price_usd": str(self.price_usd),
            "tier_prices": {tier: str(price) for tier, price in self.tier_prices.items()},
            "savings": [_shallow(saving) for saving in self.savings],
            "traded": [{**_shallow(trade), "saves_usd": str(trade.saves_usd)} for trade in self.traded],
            "alternatives": [{**_shallow(a), "price_usd": str(a.price_usd)} for a in self.alternatives],
        }

    @staticmethod
    def parse(values: Mapping[str, Any]) -> Quote:
        """Reads what `fields` gave. Raises KeyError, TypeError or ValueError."""
        return Quote(
            **{
                **values,
                "plan": Plan.parse(values["plan"]),
                "rate": Rate.parse(values["rate"]),
                "price_usd": Decimal(values["price_usd"]),
                "tier_prices": {tier: Decimal(price) for tier, price in values.get("tier_prices", {}).items()},
                "savings": tuple(Saving(**saving) for saving in values["savings"]),
                "traded": tuple(
                    Trade(**{**trade, "saves_usd": Decimal(trade["saves_usd"])}) for trade in values["traded"]
                ),
                "alternatives": tuple(
                    Alternative(**{**a, "price_usd": Decimal(a["price_usd"])}) for a in values["alternatives"]
                ),
            }
        )


def _shallow(of: Quote | Trade | Saving | Alternative) -> dict[str, Any]:
    """Its fields by name, in a tenth of the time of `asdict`, which copies whatever they hold."""
    return {name: getattr(of, name) for name in of.__slots__}


def charge(compute_s: float, quote: Quote) -> Decimal:
    """USD for what really ran, never more than was quoted."""
    return min(usd(quote.rate.price(compute_s)), quote.price_usd)

"""From a request to a quote: the best plan whose price fits the cap."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from videosvc.config.devices import load_devices
from videosvc.config.presets import Preset, Tradable
from videosvc.config.request import Request, Resolved, resolve_plan
from videosvc.config.settings import Settings
from videosvc.engine.plan import Plan
from videosvc.errors import ConfigError, UserError
from videosvc.pricing.cap import Cap, OnCap
from videosvc.pricing.cost_model import CostModel
from videosvc.pricing.limits import Limits
from videosvc.pricing.money import usd
from videosvc.pricing.options import Option, Pricer, frontier, price_options
from videosvc.pricing.quality import load_quality
from videosvc.pricing.quote import LIFETIME_S, Alternative, Quote, Trade
from videosvc.pricing.rate import Rate
from videosvc.pricing.savings import savings_of

MOST_ALTERNATIVES = 6


class Planner:
    """Quotes for one kind of device. Thread-safe; needs no torch; a quote takes a few milliseconds."""

    def __init__(self, folder: Path, settings: Settings, device_name: str, cold: bool = False) -> None:
        """`folder`: configuration; `device_name`: as a receipt has it, such as "cpu" or "NVIDIA H200".

        `cold`: the clip is the first of its process, as on the command line, and pays for warming up.
        """
        self.cost_model = CostModel(settings.data_dir, device_name)
        self._folder = folder
        self._settings = settings
        self._cold = cold

    def quote(
        self,
        request: Request,
        cap: Cap | None = None,
        tier: str = "interactive",
        wait_s: float | None = 0.0,
        lifetime_s: float = LIFETIME_S,
    ) -> Quote:
        """Checks, plans and prices a request.

        `wait_s`: compute that goes before it in the queue, by which its ETA grows; None leaves the ETA out.
        Raises CapTooLow if nothing allowed fits, UserError naming the field that is wrong (tier too),
        ConfigError if devices.toml has no price for the device.
        """
        resolved = resolve_plan(request, self._folder, self._settings)
        return self.quote_resolved(resolved, cap, tier, wait_s, lifetime_s)

    def quote_resolved(
        self,
        resolved: Resolved,
        cap: Cap | None = None,
        tier: str = "interactive",
        wait_s: float | None = 0.0,
        lifetime_s: float = LIFETIME_S,
    ) -> Quote:
        """Like `quote`, for a request that is checked already."""
        cap = cap or Cap()
        asked, entry, preset = resolved.plan, resolved.entry, resolved.preset
        rate = self._rate(preset, tier)
        fit = self.cost_model.fit(entry, asked)
        pricer = Pricer(fit, rate, self._cold)
        options, measured = price_options(asked, entry, preset, load_quality(self._folder, entry.name), pricer)
        limits = Limits.of(cap, preset, asked.seconds, fit.calibrated)
        chosen = _choose(options, asked, limits, cap.on_cap)
        baseline_s, savings = savings_of(
            asked, chosen.plan, entry, self._folder, self.cost_model, fit, self._cold
        )
        return Quote(
            id=Quote.new_id(),
            expires_at=time.time() + lifetime_s,
            preset=preset.name,
            plan=chosen.plan,
            rate=rate,
            price_usd=chosen.price_usd,
            compute_s=chosen.compute_s,
            bound_s=fit.spread * chosen.compute_s,
            eta_s=None if wait_s is None else wait_s + chosen.compute_s,
            max_compute_s=limits.compute_s,
            quality=chosen.quality,
            quality_measured=measured,
            calibrated=fit.calibrated,
            baseline_s=baseline_s,
            savings=savings,
            traded=_trades(asked, chosen.plan, preset.cap.trade, pricer),
            alternatives=_alternatives(options, chosen),
        )

    def _rate(self, preset: Preset, tier: str) -> Rate:
        tiers = dict(self._settings.tier_prices)
        if tier not in tiers:
            raise UserError(f"tier: {tier!r} is not one of {', '.join(tiers)}", param="tier")
        device = self.cost_model.device_name
        found = load_devices(self._folder).rate_of(device)
        if found is None:
            path = self._folder / "devices.toml"
            raise ConfigError(f"{path}: no pattern fits device {device!r}; add one with its price", param="devices")
        return Rate(
            device=device,
            usd_per_hour=_decimal(found.usd_per_hour),
            watts=found.watts,
            margin=_decimal(preset.price.margin),
            tier=tier,
            multiplier=_decimal(tiers[tier]),
        )


def _choose(options: Sequence[Option], asked: Plan, limits: Limits, on_cap: OnCap) -> Option:
    """What was asked for if it fits, else the best that does. Raises CapTooLow."""
    allowed = [option for option in options if option.allowed]
    if on_cap == "reject":
        allowed = [option for option in allowed if option.plan == asked]
    # At equal quality the cheaper one; between equals the one that trades in the preset's order, which comes first.
    best_first = sorted(allowed, key=lambda option: (option.plan != asked, -option.quality, option.price_usd))
    for option in best_first:
        if limits.allow(option):
            return option
    raise limits.refusal(allowed)


def _trades(asked: Plan, chosen: Plan, order: tuple[Tradable, ...], pricer: Pricer) -> tuple[Trade, ...]:
    """What leads from the one to the other, each with what it takes off the price."""
    trades: list[Trade] = []
    plan = asked
    for what in order:
        fields = ("width", "height") if what == "size" else (what,)
        traded = replace(plan, **{field: getattr(chosen, field) for field in fields})
        if traded != plan:
            saves = pricer.price_of(plan) - pricer.price_of(traded)
            trades.append(Trade(what, getattr(plan, what), getattr(traded, what), usd(saves)))
        plan = traded
    return tuple(trades)


def _alternatives(options: tuple[Option, ...], chosen: Option) -> tuple[Alternative, ...]:
    """The frontier's points nearest to the chosen one, cheaper and better ones."""
    others = [option for option in frontier(options) if option.plan != chosen.plan]
    cheaper = [option for option in others if option.price_usd <= chosen.price_usd]
    better = [option for option in others if option.price_usd > chosen.price_usd]
    half = MOST_ALTERNATIVES // 2
    return tuple(
        Alternative(
            option.plan.size, option.plan.steps, option.plan.fps, option.price_usd,
            option.compute_s, option.quality,
        )
        for option in (*cheaper[-half:], *better[:half])
    )  # fmt: skip


def _decimal(number: float) -> Decimal:
    """As it was written in the configuration, not as the nearest binary fraction."""
    return Decimal(repr(number))

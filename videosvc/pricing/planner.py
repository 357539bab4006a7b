"""From a request to a quote: the best plan whose price fits the cap."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from videosvc.config.devices import load_devices
from videosvc.config.models import AUTO, ModelEntry, load_models
from videosvc.config.presets import Preset, Tradable
from videosvc.config.quality import QualityTable, load_quality
from videosvc.config.request import Request, Resolved, resolve_plan
from videosvc.config.settings import Settings
from videosvc.engine.plan import Plan
from videosvc.errors import CapTooLow, ConfigError, ModelAway, ModelError, PresetError, Unreachable, UserError
from videosvc.pricing.calibration import levers_of
from videosvc.pricing.cap import Cap, OnCap
from videosvc.pricing.cost_model import CostModel, Fit
from videosvc.pricing.goal import Goal
from videosvc.pricing.ladder import LEVERS, other_levers
from videosvc.pricing.limits import Limits
from videosvc.pricing.money import usd, usd_down
from videosvc.pricing.options import Option, Pricer, frontier, price_options
from videosvc.pricing.quote import LIFETIME_S, Alternative, Quote, Trade
from videosvc.pricing.rate import Rate
from videosvc.pricing.savings import savings_of
from videosvc.pricing.told import at_least, at_most

log = logging.getLogger(__name__)

MOST_ALTERNATIVES = 6

WaitOf = Callable[[str], float]  # a model's name to seconds
WhyNot = Callable[[Plan], str | None]  # why no worker can run a plan with its levers; None: one can


def no_wait(model: str) -> float:
    """Where clips are made at once, as on the command line."""
    return 0.0


def no_reason(plan: Plan) -> str | None:
    """Where whoever loads the model will say what cannot be."""
    return None


def beyond_workers(preset: str, model: str, reason: str) -> UserError:
    message = f"preset: {preset!r} is more than any worker of model {model!r} can: {reason}"
    return UserError(message, param="preset")


class Planner:
    """Quotes for one kind of device. Thread-safe; needs no torch; a quote takes a few milliseconds."""

    def __init__(
        self, folder: Path, settings: Settings, device_name: str, cold: bool = False, fetches: bool = True
    ) -> None:
        """`folder`: configuration; `device_name`: as a receipt has it, such as "cpu" or "NVIDIA H200".

        `cold`: the clip is the first of its process, as on the command line, and pays for warming up. `fetches`:
        a model that is not on this machine is fetched, which may take long; else it is refused.
        """
        self.cost_model = CostModel(settings.data_dir, device_name)
        self._folder = folder
        self._settings = settings
        self._cold = cold
        self._fetches = fetches
        self._here: set[ModelEntry] = set()
        self._told: set[tuple[str, str]] = set()  # models whose table does not count, and their weights

    def quote(
        self,
        request: Request,
        cap: Cap | None = None,
        tier: str = "interactive",
        goal: Goal | None = None,
        wait_s: WaitOf = no_wait,
        lifetime_s: float = LIFETIME_S,
        why_not: WhyNot = no_reason,
    ) -> Quote:
        """Checks, plans and prices a request; for model "auto", on the model that does it cheapest.

        Where a cap is to be used up, as no quality is asked for, that is the model that is best under it, as measured.

        `wait_s(model)`: seconds before a worker of that model is free, by which the ETA grows. `why_not(plan)`: what no
        worker can run is neither traded for nor taken by "auto".
        Raises CapTooLow if nothing allowed fits, UserError naming the field that is wrong (tier, min_quality,
        deadline_seconds, input_reference too), ConfigError if devices.toml has no price for the device.
        """
        if (self._settings.model if request.model is None else request.model) != AUTO:
            resolved = resolve_plan(request, self._folder, self._settings)
            return self._quote(resolved, cap or Cap(), tier, goal or Goal(), wait_s, lifetime_s, why_not)
        quotes: list[Quote] = []
        refusals: list[UserError] = []
        for model in load_models(self._folder):
            try:
                quotes.append(self.quote(replace(request, model=model), cap, tier, goal, wait_s, lifetime_s, why_not))
            except UserError as refusal:
                if isinstance(refusal, ConfigError) and not isinstance(refusal, PresetError):
                    raise  # the service is set up wrong; a preset may just be none for this model
                refusals.append(refusal)
        if not quotes:
            raise _most_telling(refusals)
        spends = cap is not None and cap.trades and (goal is None or goal.min_quality is None)

        def rank(quote: Quote) -> tuple[bool, float, Decimal, float]:
            best_first = spends and quote.quality_measured
            return spends and not best_first, -quote.quality if best_first else 0.0, quote.price_usd, -quote.quality

        return min(quotes, key=rank)  # between equals the first in the file

    def _quote(
        self,
        resolved: Resolved,
        cap: Cap,
        tier: str,
        goal: Goal,
        wait_s: WaitOf,
        lifetime_s: float,
        why_not: WhyNot,
    ) -> Quote:
        asked, entry, preset = resolved.plan, resolved.entry, resolved.preset
        self._require_here(entry)
        if (reason := why_not(asked)) is not None:
            raise beyond_workers(preset.name, entry.name, reason)
        rate = self.rate(preset, tier)
        fit = self.cost_model.fit(entry, asked)
        if asked.input_reference is not None and not fit.shape.spec.takes_picture:
            why = f"its first chunk has {fit.shape.spec.first_chunk} latents, and a picture makes one"
            message = f"input_reference: model {entry.name!r} cannot start from a picture: {why}"
            raise ModelError(message, param="input_reference")
        own_usd = preset.cap.max_cost_usd  # of a guess it refuses nobody (see Limits), and is kept all the same
        most_usd = None if fit.calibrated or own_usd is None else usd_down(_decimal(own_usd))
        pricer = Pricer(self._fits(resolved, fit, why_not), rate, self._cold, most_usd)
        table = self._table(entry, fit.shape.model_hash)
        options, measured = price_options(asked, entry, preset, table, pricer)
        limits = Limits.of(cap, preset, asked.clip_seconds, fit.calibrated)
        waiting_s = wait_s(entry.name)
        in_time = _in_time(options, goal, waiting_s)
        allowed = _allowed(in_time, asked, cap.on_cap)
        if not allowed:
            raise _too_soon(_allowed(options, asked, cap.on_cap), goal, waiting_s)
        if goal.min_quality is None:
            chosen = _choose(allowed, asked, limits, cap)
        else:
            chosen = _cheapest(allowed, asked, limits, goal.min_quality, measured)
        fit = pricer.fit(chosen.plan)
        baseline_s, savings = savings_of(asked, chosen.plan, entry, self._folder, self.cost_model, fit, self._cold)
        return Quote(
            id=Quote.new_id(),
            expires_at=time.time() + lifetime_s,
            preset=preset.name,
            plan=chosen.plan,
            rate=rate,
            price_usd=chosen.price_usd,
            tier_prices=self._tier_prices(pricer, chosen.bound_s),
            compute_s=chosen.compute_s,
            bound_s=chosen.bound_s,
            eta_s=waiting_s + chosen.bound_s,
            max_compute_s=limits.run_s(chosen, rate),
            quality=chosen.quality,
            quality_measured=measured,
            calibrated=fit.calibrated,
            baseline_s=baseline_s,
            savings=savings,
            traded=_trades(asked, chosen.plan, preset.cap.trade, pricer),
            alternatives=_alternatives(in_time, chosen),
        )

    def _require_here(self, entry: ModelEntry) -> None:
        """Raises ModelAway."""
        if self._fetches or entry.revision is None or entry in self._here:
            return
        if entry.folder_here() is None:
            raise ModelAway(f"model: {entry.name!r} is still being fetched; try again", param="model")
        self._here.add(entry)

    def _fits(self, resolved: Resolved, fit: Fit, why_not: WhyNot) -> dict[str, Fit]:
        """By set of levers: that asked for, of this `fit`, and those to trade for that can be run and were calibrated.

        A guess does not tell one set from another. Two levers are traded for only if each alone was calibrated too, as
        a quote says what each of them saves.
        """
        asked, entry, trade = resolved.plan, resolved.entry, resolved.preset.cap.trade
        fits = {levers_of(asked): fit}
        for plan in other_levers(asked, entry, trade) if fit.calibrated else ():
            alone = (replace(asked, **{lever: getattr(plan, lever)}) for lever in LEVERS)
            if why_not(plan) is None and all(step == plan or levers_of(step) in fits for step in alone):
                other = self.cost_model.fit(entry, plan)
                if other.calibrated:  # the device is no quicker for it than jobs of the asked set just found it
                    fits[levers_of(plan)] = replace(other, slowness=max(fit.slowness, other.slowness))
        return fits

    def _table(self, entry: ModelEntry, model_hash: str) -> QualityTable | None:
        """None if the model was not measured, or, which is logged once, other weights of it were."""
        table = load_quality(self._folder, entry.name)
        if table is None or not table.is_of_other_weights(model_hash):
            return table
        if (entry.name, model_hash) not in self._told:
            self._told.add((entry.name, model_hash))
            says = "quality/%s.json was measured on other weights of the model and does not count; run `videosvc tune`"
            log.warning(says, entry.name)
        return None

    def _tier_prices(self, pricer: Pricer, bound_s: float) -> dict[str, Decimal]:
        """What the same seconds are sold at in each tier."""
        rates = {
            tier: replace(pricer.rate, tier=tier, multiplier=_decimal(by)) for tier, by in self._settings.tier_prices
        }
        return {tier: replace(pricer, rate=rate).price(bound_s) for tier, rate in rates.items()}

    def rate(self, preset: Preset, tier: str) -> Rate:
        """Raises UserError (tier), ConfigError if devices.toml has no price for the device."""
        tiers = dict(self._settings.tier_prices)
        if tier not in tiers:
            raise UserError(f"tier: {tier!r} is not one of {', '.join(tiers)}", param="tier")
        device = self.cost_model.device_name
        found = load_devices(self._folder).rate_of(device)
        return Rate(
            device=device,
            usd_per_hour=_decimal(found.usd_per_hour),
            watts=found.watts,
            margin=_decimal(preset.price.margin),
            tier=tier,
            multiplier=_decimal(tiers[tier]),
        )


def _choose(allowed: Sequence[Option], asked: Plan, limits: Limits, cap: Cap) -> Option:
    """The best that fits; without a cap of the caller's what was asked for, if it does. Raises CapTooLow.

    What was asked for need not be the best: a model may be worse at a size than at a smaller one, or no better for more
    steps. Under a cap the best is taken all the same, and of equals the cheapest: else a higher cap could give a worse
    plan, or the same clip for more.
    """
    capped = cap.is_given

    def rank(option: Option) -> tuple[bool, float, Decimal, bool]:
        is_asked = option.plan == asked
        return capped or not is_asked, -option.quality, option.price_usd, not is_asked

    # Between equals of one price the one that trades in the preset's order, which comes first.
    for option in sorted(allowed, key=rank):
        if limits.allow(option):
            return option
    raise limits.refusal(allowed)


def _cheapest(allowed: Sequence[Option], asked: Plan, limits: Limits, min_quality: float, measured: bool) -> Option:
    """The cheapest that is expected to be good enough. Raises UserError (min_quality), CapTooLow."""
    if not measured:
        message = f"min_quality: nobody measured the quality of model {asked.model!r} yet; `videosvc tune` does"
        raise UserError(message, param="min_quality")
    good = [option for option in allowed if option.quality >= min_quality]
    if not good:
        best = max(option.quality for option in allowed)
        reached = f"model {asked.model!r} reaches {at_most(best)} at what is asked for"
        raise Unreachable(f"min_quality: {min_quality:g} is too high; {reached}", "min_quality", best)
    for option in sorted(good, key=lambda option: (option.price_usd, -option.quality)):
        if limits.allow(option):
            return option
    raise limits.refusal(good)


def _allowed(options: Sequence[Option], asked: Plan, on_cap: OnCap) -> list[Option]:
    if on_cap == "reject":
        return [option for option in options if option.plan == asked]
    return [option for option in options if option.allowed]


def _in_time(options: Sequence[Option], goal: Goal, waiting_s: float) -> Sequence[Option]:
    """Those that are done by the deadline even if they take their bound."""
    if goal.deadline_s is None:
        return options
    return [option for option in options if waiting_s + option.bound_s <= goal.deadline_s]


def _too_soon(allowed: Sequence[Option], goal: Goal, waiting_s: float) -> Unreachable:
    """For when none of `allowed` is done by the deadline."""
    quickest_s = waiting_s + min(option.bound_s for option in allowed)
    too_soon = f"deadline_seconds: {goal.deadline_s:g} is too soon"
    message = f"{too_soon}; the quickest allowed plan may take {at_least(quickest_s)} s"
    return Unreachable(message, "deadline_seconds", quickest_s)


def _most_telling(refusals: Sequence[UserError]) -> UserError:
    """Of what each model was refused for: the cap that comes nearest, or else the goal; else what the first one says.

    A quality that is nearly reached is told before a deadline.
    """
    too_low = [refusal for refusal in refusals if isinstance(refusal, CapTooLow)]
    if too_low:
        return min(too_low, key=lambda refusal: refusal.cheapest_usd)
    goals = [refusal for refusal in refusals if isinstance(refusal, Unreachable)]
    qualities = [refusal for refusal in goals if refusal.param == "min_quality"]
    if qualities:
        return max(qualities, key=lambda refusal: refusal.nearest)
    return min(goals, key=lambda refusal: refusal.nearest) if goals else refusals[0]


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


def _alternatives(options: Sequence[Option], chosen: Option) -> tuple[Alternative, ...]:
    """The frontier's points nearest to the chosen one, cheaper and better ones."""
    others = [option for option in frontier(options) if option.plan != chosen.plan]
    cheaper = [option for option in others if option.price_usd <= chosen.price_usd]
    better = [option for option in others if option.price_usd > chosen.price_usd]
    half = MOST_ALTERNATIVES // 2
    return tuple(
        Alternative(
            option.plan.size, option.plan.steps, option.plan.fps, option.price_usd, option.compute_s, option.quality,
            option.plan.weights, option.plan.frame_cache,
        )
        for option in (*cheaper[-half:], *better[:half])
    )  # fmt: skip


def _decimal(number: float) -> Decimal:
    """As it was written in the configuration, not as the nearest binary fraction."""
    return Decimal(repr(number))

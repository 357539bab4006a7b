"""`videosvc quote`: what a clip would cost on this device, and how it would be made. Nothing is generated.

The quote binds: `videosvc generate --quote-id` makes the clip by its plan and charges no more.
"""

from __future__ import annotations

import json
import sys

import typer

from videosvc.cli.device_levers import model_refused_here
from videosvc.cli.kept_quotes import asked_for, keep_quote
from videosvc.cli.request_options import (
    Deadline,
    Fps,
    InputReference,
    Json,
    MaxCompute,
    MaxCost,
    MinQuality,
    Model,
    OnCap,
    Preset,
    Prompt,
    Seconds,
    Seed,
    Size,
)
from videosvc.config.models import load_model
from videosvc.config.request import Request
from videosvc.config.settings import config_dir, load_settings
from videosvc.engine.loading import device_name
from videosvc.engine.picture import Picture
from videosvc.errors import ConfigError, ModelError
from videosvc.pricing.cap import Cap
from videosvc.pricing.goal import Goal
from videosvc.pricing.planner import Planner
from videosvc.pricing.quote import LIFETIME_S, Alternative, Quote


def quote(
    prompt: Prompt,
    model: Model = None,
    preset: Preset = None,
    seconds: Seconds = None,
    size: Size = None,
    fps: Fps = None,
    seed: Seed = None,
    input_reference: InputReference = None,
    max_cost: MaxCost = None,
    max_compute: MaxCompute = None,
    on_cap: OnCap = None,
    min_quality: MinQuality = None,
    deadline: Deadline = None,
    json_output: Json = False,
) -> None:
    """Say what a clip would cost here at most, and what would be traded for a cap; `generate --quote-id` makes it."""
    folder = config_dir()
    settings = load_settings(folder)
    cap = Cap.parse(max_cost, max_compute, on_cap or "degrade")
    goal = Goal.parse(min_quality, deadline)
    planner = Planner(folder, settings, device_name(settings.device), cold=True)
    picture = None if input_reference is None else Picture.load(input_reference)
    priced = planner.quote(Request(prompt, None, model, preset, seconds, size, fps, seed, picture), cap, goal=goal)
    plan = priced.plan
    asked = asked_for(
        prompt=prompt, model=model, preset=preset, seconds=seconds, size=size, fps=fps, seed=seed, max_cost=max_cost,
        max_compute=max_compute, on_cap=on_cap, min_quality=min_quality, deadline=deadline,
    )  # fmt: skip
    # What `generate` would say once it loads the model.
    if line := model_refused_here(load_model(folder, plan.model), plan.loading, plan.frame_cache):
        raise ModelError(f"model {plan.model!r}: {line}", param="levers")
    binds = f"`videosvc generate` makes it at this price for {LIFETIME_S / 60:g} minutes: --quote-id {priced.id}"
    try:
        settings.make_data_dir()
        keep_quote(settings.data_dir, priced, asked)
    except (ConfigError, OSError) as error:
        binds = "it does not bind, as it could not be kept"
        print(f"warning: this quote does not bind, as it cannot be kept: {error}", file=sys.stderr)
    typer.echo(json.dumps(priced.as_dict()) if json_output else f"{summary(priced)}\n{binds}")


def summary(quote: Quote) -> str:
    """A quote for people."""
    plan = quote.plan
    length = f"{plan.clip_seconds:g} s, {plan.frames} frames at {plan.fps} fps"
    lines = [
        f"{quote.price_usd:f} USD at most, {quote.price_per_second_usd:f} a second of the clip, on {quote.rate.device}",
        f"{plan.size}, {length}, {_steps(plan.steps)} of {plan.sampler}",
        f"compute {quote.compute_s:.2f} s expected, {quote.bound_s:.2f} s at most",
    ]
    if not quote.calibrated:
        lines.append("this device is not calibrated, so the price is a careful guess: run `videosvc calibrate`")
    lines += [
        f"traded: {trade.what} {trade.before} -> {trade.after} saves {trade.saves_usd:f} USD" for trade in quote.traded
    ]
    if quote.quality_measured:
        lines.append(f"quality {quote.quality:.2f} expected, of at most 1")
    lines += [_offer(other, quote) for other in quote.alternatives]
    return "\n".join(lines)


def _offer(other: Alternative, quote: Quote) -> str:
    weights = f", {other.weights} weights" if other.weights != quote.plan.weights else ""
    cache = f", {other.frame_cache} frame cache" if other.frame_cache != quote.plan.frame_cache else ""
    quality = f", quality {other.quality:.2f}" if quote.quality_measured else ""
    return f"or {other.price_usd:f} USD: {other.size}, {other.fps} fps, {_steps(other.steps)}{weights}{cache}{quality}"


def _steps(number: int) -> str:
    return f"{number} step{'s' if number > 1 else ''}"

"""`videosvc calibrate`: measures this device, for quotes that are no guesses."""

from __future__ import annotations

from functools import partial

import typer
from rich.progress import Progress, TaskID

from videosvc.cli.progress import progress_bar
from videosvc.cli.request_options import OneModel
from videosvc.config.models import ModelEntry, load_model
from videosvc.config.presets import load_presets
from videosvc.config.request import Request, resolve_plan
from videosvc.config.settings import Settings, config_dir, load_settings
from videosvc.engine.loading import device_name, open_engine
from videosvc.errors import ModelError, PresetError
from videosvc.families.attention_choice import chosen
from videosvc.pricing.calibration import calibration_path, levers_of
from videosvc.pricing.cost_model import CostModel
from videosvc.pricing.ladder import other_levers

PROMPT = "a red circle moves left"  # in the bundled model's vocabulary; what is shown changes no cost


def calibrate(model: OneModel = None) -> None:
    """Measure what clips take on this device: run it when nothing else does. Quotes use it from then on."""
    folder = config_dir()
    settings = load_settings(folder)
    settings.make_data_dir()
    entry = load_model(folder, model or settings.model)
    presets = [preset for preset in load_presets(folder).values() if not preset.refusals_of(entry)]
    if not presets:
        raise PresetError(f"preset: there is none that model {entry.name!r} can run", param="preset")
    plans = [
        resolve_plan(Request(PROMPT, None, entry.name, preset.name, seed=1), folder, settings).plan
        for preset in presets
    ]

    from videosvc.pricing.calibrate import calibrate as measure  # here, as it loads torch and scipy

    if entry.attention == "auto":
        _choose_attention(entry, settings)
    kept = settings.data_dir / "quantized"
    attention = chosen(entry.attention, kept, entry.name, device_name(settings.device))
    traded = [
        other
        for preset, plan in zip(presets, plans, strict=True)
        for other in other_levers(plan, entry, preset.cap.trade)
    ]
    refused: dict[str, ModelError] = {}
    device = None
    for levers, plan in {levers_of(plan): plan for plan in (*traded, *plans)}.items():
        try:
            engine = open_engine(entry, settings.device, plan.loading, kept)
            with progress_bar() as bar:
                task = bar.add_task(f"{entry.name} {levers}", total=1.0)
                calibration = measure(engine, entry, plan, partial(_show, bar, task), attention)
        except ModelError as refusal:
            if refusal.param != "levers":
                raise
            refused[levers] = refusal
            typer.echo(f"{levers} is left out: {refusal.message}", err=True)
            continue
        device = calibration.device
        path = calibration_path(settings.data_dir, calibration.device, entry.name, plan)
        calibration.save(path)
        typer.echo(f"{path}: {entry.name} on {calibration.device}, {len(calibration.residuals)} clips measured")
    if device is None:
        raise next(iter(refused.values()))
    costs = CostModel(settings.data_dir, device)
    for preset, plan in zip(presets, plans, strict=True):
        if levers_of(plan) in refused:
            continue
        estimate = costs.estimate(plan, entry)
        typer.echo(
            f"{preset.name}: {plan.clip_seconds:g} s at {plan.size} take {estimate.compute_s:.3g} s of compute, "
            f"{estimate.bound_s:.3g} s at most"
        )


def _choose_attention(entry: ModelEntry, settings: Settings) -> None:
    """Measures the model's attention backends, and keeps which is the fastest for whoever loads it from now on."""
    from videosvc.config.json_file import write_json_file
    from videosvc.families.attention_choice import choice_path
    from videosvc.pricing.calibrate_attention import measure_attention

    kept = settings.data_dir / "quantized"
    choice = measure_attention(open_engine(entry, settings.device, kept=kept), entry)
    path = choice_path(kept, entry.name, choice.device)
    write_json_file(path, choice)
    taken = ", ".join(f"{name} {seconds:.3g} s a step" for name, seconds in choice.seconds.items())
    typer.echo(f"{path}: {entry.name} attends by {choice.best} on {choice.device}: {taken}")
    for name, reason in choice.refused.items():
        typer.echo(f"{name} cannot be: {reason}")


def _show(bar: Progress, task: TaskID, share: float) -> None:
    bar.update(task, completed=share)

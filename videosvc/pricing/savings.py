"""What each lever saves against the reference preset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from videosvc.config.models import ModelEntry
from videosvc.config.presets import load_preset, preset_files
from videosvc.engine.plan import Plan
from videosvc.pricing.calibration import levers_of
from videosvc.pricing.cost_model import CostModel, Fit
from videosvc.pricing.quote import Saving

REFERENCE = "reference"  # the preset's name
LEVERS = ("weights", "frame_cache", "decode", "compile", "step_cache")
# In the order they are credited. Levers go together: only whole sets of them are measured.
GROUPS = (LEVERS, ("steps", "sampler"), ("later_steps",), ("width", "height"), ("fps",))


def savings_of(
    asked: Plan, chosen: Plan, entry: ModelEntry, folder: Path, cost_model: CostModel, fit: Fit, cold: bool
) -> tuple[float, tuple[Saving, ...]]:
    """Seconds the reference would take for what was asked, and what leads from there to `chosen`, lever by lever.

    `fit`: for the levers of `chosen`. What was calibrated is compared at one speed of the device, which is `fit`'s. A
    configuration without a preset of that name has nothing to compare with: only what was traded is saved. Raises
    PresetError, ModelError.
    """
    fits = {levers_of(chosen): fit}

    def seconds(plan: Plan) -> float:
        levers = levers_of(plan)
        if levers not in fits:
            other = cost_model.fit(entry, plan)
            fits[levers] = replace(other, slowness=fit.slowness) if fit.calibrated and other.calibrated else other
        return fits[levers].costs(plan, cold).total_s(plan.most_steps)

    plan = _reference(asked, folder)
    baseline_s = before_s = seconds(plan)
    savings = []
    for fields in GROUPS:
        differing = [field for field in fields if getattr(plan, field) != getattr(chosen, field)]
        if differing:
            plan = replace(plan, **{field: getattr(chosen, field) for field in differing})
            after_s = seconds(plan)
            savings.append(Saving(_name(fields, differing), before_s - after_s))
            before_s = after_s
    return baseline_s, tuple(savings)


def _reference(asked: Plan, folder: Path) -> Plan:
    """What was asked for, as the reference preset would make it."""
    if REFERENCE not in preset_files(folder):
        return asked
    preset = load_preset(folder, REFERENCE)
    levers = {lever: getattr(preset.levers, lever) for lever in LEVERS}
    quality = {name: getattr(preset.quality, name) for name in ("steps", "sampler", "later_steps")}
    return replace(asked, **quality, **levers)


def _name(fields: tuple[str, ...], differing: list[str]) -> str:
    if fields == LEVERS:
        return "+".join(differing)
    return "size" if "width" in fields else fields[0]

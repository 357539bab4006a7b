"""A measured setting as a preset's file."""

from __future__ import annotations

import json

from pydantic import ValidationError

from videosvc.config.presets import About, Cap, Levers, Preset, Quality
from videosvc.errors import UserError
from videosvc.pricing.finding import Finding

# By section or section and key: what stands beside it, or above it.
BESIDE = {
    "quality": "what is asked for",
    "levers": "what saves compute; `videosvc models check` says which values a model takes",
    "cap.trade": "in this order; never the length",
}
ABOVE = {
    "cap": "A preset's own limits count once `videosvc calibrate` has measured the device: a guess refuses nobody."
}

SAID = ("weights", "frame_cache", "decode")  # levers that a file names even where they are not pulled

ROOM = 2.0  # how much more than was measured a preset's own limit lets a clip take, at least


def check_preset_name(name: str) -> str:
    """Raises UserError."""
    try:
        return About(name=name).name
    except ValidationError as error:
        says = "must be up to 64 of a-z, 0-9, - and _, a letter or digit first"
        raise UserError(f"name: {name!r} {says}", param="name") from error


def tuned_preset(name: str, description: str, base: Preset, found: Finding, seconds: float) -> Preset:
    """`base` in the setting that was found; its limits are raised where the setting needs more room.

    `seconds`: of an ordinary clip, for the limit on what one costs.
    """
    setting = found.setting
    compute_s, cost_usd = base.cap.max_compute_seconds_per_second, base.cap.max_cost_usd
    cap = base.cap.model_dump() | {
        "max_compute_seconds_per_second": _raised(compute_s, found.compute_s[2]),
        "max_cost_usd": _raised(cost_usd, float(found.price_usd) * seconds),
    }
    quality = {"size": str(setting.size)} | {
        name: getattr(setting, name) for name in ("fps", "steps", "sampler", "draft_threshold", "later_steps")
    }
    levers = base.levers.model_dump() | {"weights": setting.weights, "frame_cache": setting.frame_cache}
    return Preset(
        preset=About(name=name, description=description),
        quality=Quality.model_validate(quality),
        levers=Levers.model_validate(levers),
        cap=Cap.model_validate(cap),
        price=base.price,
    )


def preset_toml(preset: Preset) -> str:
    """What `load_preset_file` reads as `preset`."""
    sections = []
    for section, values in preset.model_dump(mode="json", exclude_none=True).items():
        if section == "cap" and preset.cap == Cap():
            continue
        above = [f"# {ABOVE[section]}"] if section in ABOVE else []
        lines = [_beside(f"[{section}]", section)]
        for key, value in values.items():
            if section == "levers" and key not in SAID and value == Levers.model_fields[key].default:
                continue
            # JSON's strings, numbers, booleans and lists are TOML's too.
            lines.append(_beside(f"{key} = {json.dumps(value, ensure_ascii=False)}", f"{section}.{key}"))
        sections.append("\n".join([*above, *lines]))
    return "\n\n".join(sections) + "\n"


def _beside(line: str, place: str) -> str:
    return f"{line:<24} # {BESIDE[place]}" if place in BESIDE else line


def _raised(limit: float | None, measured: float) -> float | None:
    return None if limit is None else max(limit, float(f"{ROOM * measured:.2g}"))

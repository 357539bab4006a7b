"""A request becomes a plan here, and nowhere else: every value a caller gives is checked in this file."""

from __future__ import annotations

import math
import os
import reprlib
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from videosvc.config.models import ModelEntry, load_model
from videosvc.config.presets import Preset, load_preset
from videosvc.config.settings import Settings
from videosvc.config.size import Size
from videosvc.errors import PresetError, UserError

if TYPE_CHECKING:
    from videosvc.engine.picture import Picture
    from videosvc.engine.plan import Plan

MAX_PROMPT_CHARACTERS = 500
MAX_SEED = 2**63 - 1  # the largest that torch.Generator.manual_seed and a SQL BIGINT both hold


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller asked for; None is "the preset's" or "the model's"."""

    prompt: str
    negative_prompt: str | None = None
    model: str | None = None
    preset: str | None = None
    seconds: float | None = None
    size: str | None = None
    fps: int | None = None
    seed: int | None = None
    picture: Picture | None = None  # to start from


@dataclass(frozen=True, slots=True)
class Resolved:
    """What will run, and with what."""

    plan: Plan
    entry: ModelEntry
    preset: Preset


def resolve_plan(request: Request, folder: Path, settings: Settings) -> Resolved:
    """Checks the request against the configuration in `folder`. Raises UserError naming the field."""
    prompt = _text("prompt", request.prompt, required=True)
    preset = load_preset(folder, settings.preset if request.preset is None else request.preset)
    entry = load_model(folder, settings.model if request.model is None else request.model)
    for line in preset.refusals_of(entry):
        raise PresetError(f"preset: preset {preset.name!r}: {line}", param="preset")
    size = _size(request.size, preset, entry)
    fps = _whole("fps", preset.quality.fps if request.fps is None else request.fps, 1, entry.max_fps)
    seconds = _seconds(request.seconds, fps, entry)
    # 32 bits are enough to never meet the same clip twice, and short enough to be copied by hand.
    seed = _whole("seed", secrets.randbits(32) if request.seed is None else request.seed, 0, MAX_SEED)
    negative = entry.defaults.negative_prompt if request.negative_prompt is None else request.negative_prompt
    negative = None if negative is None else _text("negative_prompt", negative, required=False)
    _check_tokens(prompt, negative, entry)

    from videosvc.engine.plan import Plan  # here, so that listing presets loads nothing of the engine

    plan = Plan(
        model=entry.name,
        prompt=prompt,
        negative_prompt=negative,
        seed=seed,
        width=size.width,
        height=size.height,
        fps=fps,
        seconds=seconds,
        steps=preset.quality.steps,
        sampler=preset.quality.sampler,
        guidance_scale=entry.defaults.guidance_scale,
        weights=preset.levers.weights,
        frame_cache=preset.levers.frame_cache,
        decode=preset.levers.decode,
        compile=preset.levers.compile,
        step_cache=preset.levers.step_cache,
        draft_threshold=preset.quality.draft_threshold,
        later_steps=preset.quality.later_steps,
        input_reference=None if request.picture is None else request.picture.digest,
    )
    return Resolved(plan, entry, preset)


def check_output(path: Path) -> Path:
    """The path, if an MP4 can be written there. Raises UserError."""
    if path.suffix.lower() != ".mp4":
        raise UserError(f"output: {str(path)!r} must end in .mp4", param="output")
    return check_writable(path)


def check_writable(path: Path) -> Path:
    """The path, if a file can be written there. Raises UserError."""
    folder = path.parent
    try:
        is_folder = path.is_dir()
    except OSError as error:
        raise UserError(f"output: {str(path)[:40]!r}... cannot be a file: {error.strerror}", param="output") from error
    if is_folder:
        raise UserError(f"output: {str(path)!r} is a folder; name a file", param="output")
    if not folder.is_dir():
        raise UserError(f"output: there is no folder {str(folder)!r}", param="output")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"output: the folder {str(folder)!r} cannot be written to", param="output")
    return path


def _text(field: str, text: str, required: bool) -> str:
    stripped = text.strip()
    if required and not stripped:
        raise UserError(f"{field}: must not be empty", param=field)
    if len(stripped) > MAX_PROMPT_CHARACTERS:
        message = f"{field}: has {len(stripped)} characters; at most {MAX_PROMPT_CHARACTERS} are allowed"
        raise UserError(message, param=field)
    if "\0" in stripped:
        raise UserError(f"{field}: must not contain a NUL character", param=field)
    # Bytes of a command line that are not UTF-8 arrive as lone surrogates, on which tokenizers fail.
    if any("\ud800" <= character <= "\udfff" for character in stripped):
        raise UserError(f"{field}: must be UTF-8 text", param=field)
    return stripped


def _check_tokens(prompt: str, negative: str | None, entry: ModelEntry) -> None:
    """As far as this machine can tell: a model that only the workers have is left to them."""
    folder = entry.folder_here()
    if folder is None:
        return
    from videosvc.families.prompt_length import check_length

    check_length(entry.name, folder, "prompt", prompt)
    if negative is not None and entry.defaults.guidance_scale > 1.0:
        check_length(entry.name, folder, "negative_prompt", negative)


def _seconds(asked: float | None, fps: int, entry: ModelEntry) -> float:
    seconds = min(entry.defaults.seconds, entry.max_seconds) if asked is None else asked
    frame_s = math.ceil(10_000 / fps) / 10_000  # what is told as allowed is allowed
    # One that is written as 0.333 of a second is one too.
    if not (math.isfinite(seconds) and 0.999 / fps <= seconds <= entry.max_seconds):
        allowed = f"at least {frame_s:g}, a frame at {fps} fps, and at most {entry.max_seconds:g}"
        raise UserError(f"seconds: {seconds:g} must be {allowed} for model {entry.name!r}", param="seconds")
    return float(seconds)


def _size(asked: str | None, preset: Preset, entry: ModelEntry) -> Size:
    text = preset.quality.size if asked is None else asked
    origin = f" (from preset {preset.name!r})" if asked is None else ""
    try:
        size = Size.parse(text)
    except ValueError as error:
        raise UserError(f"size: {reprlib.repr(text)} {error}", param="size") from error
    problem = entry.size_problem(size)
    if problem:
        raise UserError(f"size: {size}{origin}: model {entry.name!r}: {problem}", param="size")
    return size


def _whole(field: str, value: int, lowest: int, highest: int) -> int:
    if not lowest <= value <= highest:
        raise UserError(f"{field}: {reprlib.repr(value)} must be from {lowest} to {highest}", param=field)
    return value

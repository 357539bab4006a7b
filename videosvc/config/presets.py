"""Presets: what is asked for, the levers that save compute, and the limits. One TOML file each."""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from videosvc.config.levers import IDLE, LEVERS, refusal, sampler_refusal, step_cache_refusal
from videosvc.config.models import ModelEntry
from videosvc.config.size import Size
from videosvc.config.toml_file import Section, parse_toml
from videosvc.errors import ConfigError, PresetError, UnknownPreset
from videosvc.families.checks import tiny_decoder_refusal

SamplerName = Literal["flow_map", "draft", "euler", "unipc", "consistency"]
Tradable = Literal["size", "steps", "fps", "weights", "frame_cache"]


def _size(text: str) -> str:
    Size.parse(text)
    return text


def _each_once(names: tuple[Tradable, ...]) -> tuple[Tradable, ...]:
    if len(set(names)) < len(names):
        raise ValueError(f"each of {', '.join(get_args(Tradable))} may stand there once")
    return names


class About(Section):
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    description: str = Field("", max_length=200)


class Quality(Section):
    """What is asked for."""

    size: Annotated[str, AfterValidator(_size)]
    fps: int = Field(ge=1, le=120)
    sampler: SamplerName = "flow_map"
    steps: int = Field(ge=1, le=200)
    draft_threshold: float | None = Field(None, gt=0, le=1, validate_default=True)  # see videosvc_samplers.draft
    later_steps: int | None = Field(None, ge=1, le=200)  # of each chunk after the first, which has it to go by

    @field_validator("steps")
    @classmethod
    def _halves(cls, steps: int, about: ValidationInfo) -> int:
        if about.data.get("sampler") == "draft" and steps % 2:
            raise ValueError("must be even with sampler = 'draft', which verifies by the first half of them")
        return steps

    @field_validator("draft_threshold")
    @classmethod
    def _of_a_draft(cls, threshold: float | None, about: ValidationInfo) -> float | None:
        drafts = about.data.get("sampler") == "draft"
        if drafts and threshold is None:
            raise ValueError("must be a number above 0 and at most 1 with sampler = 'draft'")
        if threshold is not None and not drafts:
            raise ValueError("is allowed with sampler = 'draft' only")
        return threshold

    @field_validator("later_steps")
    @classmethod
    def _no_more_than_the_first(cls, later_steps: int | None, about: ValidationInfo) -> int | None:
        if later_steps is not None and about.data.get("sampler") == "draft":
            raise ValueError("is not allowed with sampler = 'draft', which finds out by itself how many a chunk needs")
        if later_steps is not None and later_steps > about.data.get("steps", later_steps):
            raise ValueError(f"must be at most steps, {about.data['steps']}")
        return later_steps


class Levers(Section):
    """How compute is saved. `levers.AVAILABLE` says which of these values a family can take."""

    weights: Literal["native", "bf16", "int8", "fp8"] = "native"
    frame_cache: Literal["off", "native", "int8", "int4"] = "native"
    decode: Literal["full", "tiled", "stream", "tiny"] = "stream"
    compile: bool = False
    step_cache: Literal["none", "first_block", "mag", "sea", "taylor_seer"] = "none"

    def refusals(self, family: str) -> list[str]:
        """One line for each lever that `family` cannot take."""
        values = {lever: str(getattr(self, lever)).lower() for lever in LEVERS}
        lines = (refusal(family, lever, value) for lever, value in values.items())
        return [line for line in lines if line is not None]

    def refusals_of(self, entry: ModelEntry) -> list[str]:
        """One line for each lever that this model cannot take: what its family can may not be in its folder.

        Raises ModelError if a lever's files there are damaged.
        """
        lines = self.refusals(entry.family)
        folder = entry.folder_here() if self.decode == "tiny" else None  # elsewhere its worker says
        if folder is not None and (line := tiny_decoder_refusal(entry.name, folder)):
            lines.append(line)
        if not lines and (line := step_cache_refusal(self.step_cache, entry.mag_ratios, self.compile)):
            lines.append(line)
        return lines


class Cap(Section):
    """Limits of one job; None is no limit."""

    max_compute_seconds_per_second: float | None = Field(None, gt=0, le=1e7)
    max_cost_usd: float | None = Field(None, ge=1e-9, le=1e6)  # as in a request; the ledger holds nine decimals
    trade: Annotated[tuple[Tradable, ...], AfterValidator(_each_once)] = ()


class Price(Section):
    margin: float = Field(0.0, ge=0, le=10)  # share of the cost added to it


class Preset(Section):
    """One file of presets/."""

    preset: About
    quality: Quality
    levers: Levers = Levers()
    cap: Cap = Cap()
    price: Price = Price()

    @property
    def name(self) -> str:
        return self.preset.name

    def refusals_of(self, entry: ModelEntry) -> list[str]:
        """One line for its sampler and for each lever that this model cannot take. Raises ModelError as they do."""
        lines = self.levers.refusals_of(entry)
        if line := sampler_refusal(entry.family, self.quality.sampler):
            lines.append(line)
        if self.quality.later_steps is not None and entry.family == "wan":
            lines.append("later_steps: does nothing for family wan, whose clips are one chunk each; leave it out")
        return lines

    def idle_trades(self, family: str) -> list[str]:
        """What it would trade that does nothing for `family`, and so is passed by."""
        return [what for what in self.cap.trade if what in IDLE[family]]


def load_preset_file(path: Path) -> Preset:
    """Raises PresetError naming file, key, value and what is allowed."""
    try:
        preset = parse_toml(path, Preset)
    except ConfigError as error:
        raise PresetError(f"preset {error.message}", param=error.param) from error
    if preset.name != path.stem:
        raise PresetError(
            f"preset {path}: preset.name = {preset.name!r}: must be {path.stem!r}, the name of its file",
            param="preset.name",
        )
    return preset


def preset_files(folder: Path) -> dict[str, Path]:
    """Files of `folder`/presets by name."""
    return {path.stem: path for path in sorted((folder / "presets").glob("*.toml"))}


def load_presets(folder: Path) -> dict[str, Preset]:
    """All presets of a configuration folder, by name. Raises PresetError at the first broken file."""
    return {name: load_preset_file(path) for name, path in preset_files(folder).items()}


def load_preset(folder: Path, name: str) -> Preset:
    """One preset; a broken file beside it does no harm. Raises UnknownPreset."""
    files = preset_files(folder)
    if name not in files:
        known = ", ".join(files) or "none"
        raise UnknownPreset(f"preset: {reprlib.repr(name)} is unknown; there are {known}", param="preset")
    return load_preset_file(files[name])

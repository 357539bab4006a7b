"""The settings that `videosvc tune` sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import get_args

from videosvc.config.levers import AVAILABLE, IDLE, refusal
from videosvc.config.models import ModelEntry
from videosvc.config.presets import Preset, SamplerName
from videosvc.config.quality import PLAIN_DECODES
from videosvc.config.size import Size
from videosvc.engine.plan import Plan
from videosvc.errors import UserError

STEPS = (1, 2, 4, 8)
MOST_STEPS = 200  # as in a preset


def check_base(preset: Preset) -> None:
    """Raises UserError (preset) where it changes pictures by levers that are not swept: no point could say so."""
    levers = preset.levers
    if levers.decode not in PLAIN_DECODES:
        pulled = f"decode={levers.decode!r}"
    elif levers.step_cache != "none":
        pulled = f"step_cache={levers.step_cache!r}"
    else:
        return
    message = f"preset: {preset.name!r} has {pulled}, which is not swept and changes clips; begin from one without it"
    raise UserError(message, param="preset")


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to make any clip."""

    size: Size
    fps: int
    steps: int
    sampler: str
    weights: str
    frame_cache: str
    draft_threshold: float | None = None  # with sampler "draft" only
    later_steps: int | None = None  # of chunks after the first, if they are fewer

    def plan(self, base: Plan, prompt: str, seed: int) -> Plan:
        """`base` in this setting."""
        return replace(
            base,
            prompt=prompt,
            seed=seed,
            width=self.size.width,
            height=self.size.height,
            fps=self.fps,
            steps=self.steps,
            sampler=self.sampler,
            weights=self.weights,
            frame_cache=self.frame_cache,
            draft_threshold=self.draft_threshold,
            later_steps=self.later_steps,
        )

    @property
    def steps_told(self) -> str:
        """For a table: of the first chunk, and of each later one if they are fewer."""
        return str(self.steps) if self.later_steps is None else f"{self.steps}, then {self.later_steps}"

    def __str__(self) -> str:
        later = "" if self.later_steps is None else f", {self.later_steps} after the first chunk"
        return f"{self.size}, {self.steps} step{'s' if self.steps > 1 else ''} of {self.sampler}{later}"


@dataclass(frozen=True, slots=True)
class Grid:
    """Every combination is a setting."""

    sizes: tuple[Size, ...]
    rates: tuple[int, ...]  # frames a second
    steps: tuple[int, ...]
    samplers: tuple[str, ...]
    weights: tuple[str, ...]
    frame_caches: tuple[str, ...]
    draft_threshold: float | None
    later_steps: tuple[int | None, ...] = (None,)

    @staticmethod
    def parse(
        entry: ModelEntry,
        preset: Preset,
        sizes: str | None = None,
        fps: str | None = None,
        steps: str | None = None,
        samplers: str | None = None,
        weights: str | None = None,
        frame_caches: str | None = None,
        later_steps: str | None = None,
        bf16_is_native: bool = False,
    ) -> Grid:
        """Reads lists with commas between their items. None is every size of the model, `STEPS`, every lever that the
        family can take, and the preset's rate, sampler and later steps, of which "all" are as many as in the first
        chunk. Raises UserError naming the field.

        `bf16_is_native`: as on a GPU. What makes the same clips at the same cost is swept once.
        """
        check_base(preset)
        levers: dict[str, Sequence[str]] = {
            "weights": [w for w in AVAILABLE[entry.family]["weights"] if not (bf16_is_native and w == "bf16")],
            "frame_cache": AVAILABLE[entry.family]["frame_cache"],
        }
        if "frame_cache" in IDLE[entry.family]:
            levers["frame_cache"] = [preset.levers.frame_cache]
        grid = Grid(
            sizes=tuple(_size(text, entry) for text in _items("sizes", sizes, entry.sizes)),
            rates=tuple(_whole("fps", text, entry.max_fps) for text in _items("fps", fps, (preset.quality.fps,))),
            steps=tuple(_whole("steps", text, MOST_STEPS) for text in _items("steps", steps, STEPS)),
            samplers=tuple(_sampler(text) for text in _items("samplers", samplers, (preset.quality.sampler,))),
            weights=tuple(_lever("weights", text, entry) for text in _items("weights", weights, levers["weights"])),
            frame_caches=tuple(
                _lever("frame_cache", text, entry)
                for text in _items("frame_caches", frame_caches, levers["frame_cache"])
            ),
            draft_threshold=preset.quality.draft_threshold,
            later_steps=tuple(
                None if text == "all" else _whole("later_steps", text, MOST_STEPS)
                for text in _items("later_steps", later_steps, (preset.quality.later_steps or "all",))
            ),
        )
        if "frame_cache" in IDLE[entry.family] and len(grid.frame_caches) > 1:
            message = f"frame_caches: all are one to family {entry.family}; name one"
            raise UserError(message, param="frame_caches")
        if "draft" in grid.samplers and grid.draft_threshold is None:
            message = f"samplers: draft needs a preset that has a draft_threshold; {preset.name!r} has none"
            raise UserError(message, param="samplers")
        if not grid.settings():
            raise UserError("steps: none is even, and draft takes half of them at once", param="steps")
        return grid

    def settings(self) -> tuple[Setting, ...]:
        """Without drafts of an odd number of steps, of which there is no half. What comes to the same is there once."""
        places = product(self.sizes, self.rates, self.steps, self.samplers, self.weights, self.frame_caches)
        found = []
        for place, later in product(places, self.later_steps):
            steps, sampler = place[2], place[3]
            if sampler != "draft":
                found.append(Setting(*place, later_steps=later if later is not None and later < steps else None))
            elif steps % 2 == 0:
                found.append(Setting(*place, self.draft_threshold))
        return tuple(dict.fromkeys(found))

    def references(self, preset: Preset, entry: ModelEntry) -> tuple[Setting, ...]:
        """As `preset` makes clips, but with no lever pulled and at the highest rate; at each size, its own last.

        The largest of the grid is last, if the model cannot make that one.
        """
        own = Size.parse(preset.quality.size)
        last = own if entry.size_problem(own) is None else max(self.sizes, key=lambda size: (size.pixels, size))
        sizes = (*(size for size in self.sizes if size != last), last)
        steps, sampler = preset.quality.steps, preset.quality.sampler
        return tuple(Setting(size, max(self.rates), steps, sampler, "native", "native") for size in sizes)


def _items(field: str, text: str | None, default: Sequence[object]) -> tuple[str, ...]:
    """Each once."""
    items = [str(item) for item in default] if text is None else [item.strip() for item in text.split(",")]
    if not all(items):
        raise UserError(f"{field}: {text!r} must be a list with commas between its items, none empty", param=field)
    return tuple(dict.fromkeys(items))


def _size(text: str, entry: ModelEntry) -> Size:
    try:
        size = Size.parse(text)
    except ValueError as error:
        raise UserError(f"sizes: {text!r} {error}", param="sizes") from error
    if problem := entry.size_problem(size):
        raise UserError(f"sizes: {size}: model {entry.name!r}: {problem}", param="sizes")
    return size


def _whole(field: str, text: str, highest: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= highest):
        raise UserError(f"{field}: {text!r} must be a whole number from 1 to {highest}", param=field)
    return int(text)


def _sampler(text: str) -> str:
    names = get_args(SamplerName)
    if text not in names:
        raise UserError(f"samplers: {text!r} is not one of {', '.join(names)}", param="samplers")
    return text


def _lever(lever: str, text: str, entry: ModelEntry) -> str:
    if line := refusal(entry.family, lever, text):
        field = "frame_caches" if lever == "frame_cache" else lever
        raise UserError(f"{field}: {line}", param=field)
    return text

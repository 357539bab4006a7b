"""How good a plan is expected to be: what `videosvc tune` measured, else an order without a scale."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError

from videosvc.config.size import Size
from videosvc.config.toml_file import Section, first_problem
from videosvc.engine.plan import Plan
from videosvc.errors import ConfigError
from videosvc.pricing.ladder import Candidate

HALF_THE_FRAMES = 0.9  # what is left of the quality, where `videosvc tune --fps` did not measure it

Levers = tuple[str, float | None, str, str]  # sampler, threshold of drafts, weights, frame cache


def _size(text: str) -> str:
    Size.parse(text)
    return text


class Spread(Section):
    """Percentiles of what clips took."""

    p20: float = Field(ge=0)
    p50: float = Field(ge=0)
    p80: float = Field(ge=0)


class Point(Section):
    """One measured setting. The planner needs no more than what has no default."""

    size: Annotated[str, AfterValidator(_size)]
    steps: int = Field(ge=1)
    sampler: str
    draft_threshold: float | None = None  # with sampler "draft" only
    weights: str
    frame_cache: str
    fps: int | None = Field(None, ge=1)  # None: was not varied, and holds for every rate
    quality: float = Field(ge=0, le=1)
    quality_error: float | None = Field(None, ge=0)  # standard error; None: of a single clip
    compute_s: Spread | None = None  # a second of the clip
    price_usd: float | None = Field(None, ge=0)  # a second of the clip, at the median of compute
    frontier: bool = False  # no other setting of the sweep is cheaper and at least as good

    @cached_property
    def _pixels(self) -> Size:
        return Size.parse(self.size)

    @property
    def levers(self) -> Levers:
        return self.sampler, self.draft_threshold, self.weights, self.frame_cache

    def is_within(self, plan: Plan) -> bool:
        """Whether a plan with these levers has at least this size, these steps and frames a second."""
        width, height = self._pixels
        rate = self.fps is None or self.fps <= plan.fps
        return rate and self.steps <= plan.steps and width <= plan.width and height <= plan.height


class Sweep(Section):
    """How, with what and on what points were measured."""

    score: str
    method: str  # what the score's numbers are, in words
    reference: str  # setting that `quality` is held against
    reference_quality: float = Field(ge=0, le=1)
    clips: int = Field(ge=1)  # of each point
    seconds: float = Field(gt=0)  # of each clip
    seed: int
    device: str
    usd_per_hour: float = Field(ge=0)
    margin: float = Field(ge=0)
    model_hash: str
    versions: dict[str, str]
    measured_at: float = Field(gt=0)  # Unix seconds


class QualityTable(Section):
    """Measured points of one model, `quality/NAME.json` in the configuration folder."""

    format: Literal[1] = 1
    model: str
    sweep: Sweep | None = None  # None: written by hand
    points: tuple[Point, ...]

    @cached_property
    def lowest_fps(self) -> int | None:
        """None if no point says at which rate it was measured."""
        return min((point.fps for point in self.points if point.fps is not None), default=None)

    @cached_property
    def _by_levers(self) -> dict[Levers, list[Point]]:
        alike: defaultdict[Levers, list[Point]] = defaultdict(list)
        for point in self.points:
            alike[point.levers].append(point)
        return alike

    def quality(self, plan: Plan) -> float | None:
        """The best point at or below the plan: more of anything never counts as worse. None if there is none."""
        levers = (plan.sampler, plan.draft_threshold, plan.weights, plan.frame_cache)
        alike = self._by_levers.get(levers, [])
        return max((point.quality for point in alike if point.is_within(plan)), default=None)


def load_quality(folder: Path, model: str) -> QualityTable | None:
    """None if nothing was measured yet. Raises ConfigError if the file is broken."""
    path = folder / "quality" / f"{model}.json"
    if not path.is_file():
        return None
    try:
        return QualityTable.model_validate_json(path.read_bytes())
    except ValidationError as error:
        key, message = first_problem(error, QualityTable)
        raise ConfigError(f"{path}: {message}", param=key) from error


def qualities(candidates: Sequence[Candidate], table: QualityTable | None) -> tuple[list[float], bool]:
    """The quality of each candidate, from 0 to 1, and whether it was measured.

    Below the lowest rate measured, and everywhere if none was, half the frames count as 0.9 of the quality. Where a
    candidate has no measured point, none counts: ranks alone then tell better from worse, evenly spaced, and say
    nothing of how much.
    """
    if table is not None:
        lowest = table.lowest_fps or max(candidate.plan.fps for candidate in candidates)
        measured = [_quality(candidate.plan, table, lowest) for candidate in candidates]
        known = [value for value in measured if value is not None]
        if len(known) == len(candidates):
            return known, True
    return [1 - candidate.rank / len(candidates) for candidate in candidates], False


def _quality(plan: Plan, table: QualityTable, lowest_fps: int) -> float | None:
    if plan.fps >= lowest_fps:
        return table.quality(plan)
    known = table.quality(replace(plan, fps=lowest_fps))
    return known and known * HALF_THE_FRAMES ** math.log2(lowest_fps / plan.fps)

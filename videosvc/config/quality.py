"""How good plans are, as measured: quality/NAME.json, one file a model, written by `videosvc tune`."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError

from videosvc.config.size import Size
from videosvc.config.toml_file import Section, first_problem
from videosvc.errors import ConfigError

if TYPE_CHECKING:
    from videosvc.engine.plan import Plan

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

    def is_of_other_weights(self, model_hash: str) -> bool:
        """Whether it says that it was measured on weights other than these."""
        return self.sweep is not None and self.sweep.model_hash != model_hash

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
    return load_quality_file(path) if path.is_file() else None


def load_quality_file(path: Path) -> QualityTable:
    """Raises ConfigError naming file, key and value."""
    try:
        return QualityTable.model_validate_json(path.read_bytes())
    except ValidationError as error:
        key, message = first_problem(error, QualityTable)
        raise ConfigError(f"{path}: {message}", param=key) from error

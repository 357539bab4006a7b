"""How good plans are, as measured: quality/NAME.json, one file a model, written by `videosvc tune`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError

from videosvc.config.size import Size
from videosvc.config.toml_file import Section, first_problem
from videosvc.errors import ConfigError

if TYPE_CHECKING:
    from videosvc.engine.plan import Plan

PLAIN_DECODES = ("full", "stream")  # whose frames differ by no more than roundings

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

    @property
    def levers(self) -> Levers:
        return self.sampler, self.draft_threshold, self.weights, self.frame_cache

    def is_within(self, plan: Plan) -> bool:
        """Whether a plan with these levers and this size has at least these steps and frames a second."""
        return self.steps <= plan.steps and (self.fps is None or self.fps <= plan.fps)


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
    def _by_levers(self) -> dict[Levers, dict[Size, list[Point]]]:
        """The smallest size first."""
        alike: defaultdict[Levers, defaultdict[Size, list[Point]]] = defaultdict(lambda: defaultdict(list))
        for point in sorted(self.points, key=lambda point: Size.parse(point.size).pixels):
            alike[point.levers][Size.parse(point.size)].append(point)
        return {levers: dict(by_size) for levers, by_size in alike.items()}

    def quality(self, plan: Plan) -> float | None:
        """What was measured at the plan's levers and size; None if nothing at or below the plan was.

        None too with levers that change the picture and are not swept: tiles, the tiny decoder, step caches.
        At one size more steps and frames never count as worse: the best point at or below the plan is taken, as clips
        are few and what drops from one point to the next is noise. Sizes are as good as they were measured: a model may
        hardly have learnt its largest one. A size that was not measured is as good as the next smaller one that was,
        and no better than the next larger one.
        """
        if plan.decode not in PLAIN_DECODES or plan.step_cache != "none":  # points are of whole frames, and no cache
            return None
        levers = (plan.sampler, plan.draft_threshold, plan.weights, plan.frame_cache)
        return _quality(plan, Size(plan.width, plan.height), self._by_levers.get(levers, {}))


def _quality(plan: Plan, size: Size, measured: Mapping[Size, Sequence[Point]]) -> float | None:
    """Of the plan, were it of this size. `measured`: the smallest size first."""
    within = [point.quality for point in measured.get(size, ()) if point.is_within(plan)]
    if within:
        return max(within)
    smaller = [other for other in measured if other != size and other.fits_in(size)]
    below = _quality(plan, smaller[-1], measured) if smaller else None
    larger = next((points for other, points in measured.items() if size.fits_in(other)), ())
    if below is None or not larger:
        return below
    # Where only more was measured of the larger one, its least point counts: less is no better.
    within = [point.quality for point in larger if point.is_within(plan)]
    return min(below, max(within) if within else min(point.quality for point in larger))


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

"""How good plans are, as measured: quality/NAME.json, one file a model, written by `videosvc tune`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError

from videosvc.config.size import Size
from videosvc.config.toml_file import FileState, Section, file_state, first_problem
from videosvc.errors import ConfigError

if TYPE_CHECKING:
    from videosvc.engine.plan import Plan

PLAIN_DECODES = ("full", "stream")  # whose frames differ by no more than roundings

# Sampler, threshold of drafts, steps of later chunks, weights, frame cache.
Levers = tuple[str, float | None, int | None, str, str]
Found = tuple[int, int, float]  # steps, fps (0: any), quality: of a point, to look dozens up for a quote


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
    later_steps: int | None = Field(None, ge=1)  # None: of each chunk as many as `steps`
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
        return self.sampler, self.draft_threshold, self.later_steps, self.weights, self.frame_cache


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
    def _by_levers(self) -> dict[Levers, dict[Size, list[Found]]]:
        """The smallest size first."""
        alike: defaultdict[Levers, defaultdict[Size, list[Found]]] = defaultdict(lambda: defaultdict(list))
        for point in sorted(self.points, key=lambda point: Size.parse(point.size).pixels):
            alike[point.levers][Size.parse(point.size)].append((point.steps, point.fps or 0, point.quality))
        return {levers: dict(by_size) for levers, by_size in alike.items()}

    def quality(self, plan: Plan, fps: int) -> float | None:
        """What was measured at the plan's levers and size; None if nothing at or below the plan at this `fps` was.

        None too with levers that change the picture and are not swept: tiles, the tiny decoder, step caches.
        At one size more steps and frames never count as worse: the best point at or below the plan is taken, as clips
        are few and what drops from one point to the next is noise. Sizes are as good as they were measured: a model may
        hardly have learnt its largest one. A size that was not measured is as good as the next smaller one that was,
        and no better than the next larger one.
        """
        if plan.decode not in PLAIN_DECODES or plan.step_cache != "none":  # points are of whole frames, and no cache
            return None
        fewer = plan.later_steps if plan.steps_of(1) < plan.steps_of(0) else None
        levers = (plan.sampler, plan.draft_threshold, fewer, plan.weights, plan.frame_cache)
        return _quality(Size(plan.width, plan.height), plan.steps, fps, self._by_levers.get(levers, {}))


def _quality(size: Size, steps: int, fps: int, measured: Mapping[Size, Sequence[Found]]) -> float | None:
    """`measured`: the smallest size first."""
    if (best := _best_within(steps, fps, measured.get(size, ()))) is not None:
        return best
    smaller = [other for other in measured if other != size and other.fits_in(size)]
    below = _quality(smaller[-1], steps, fps, measured) if smaller else None
    larger = next((points for other, points in measured.items() if size.fits_in(other)), ())
    if below is None or not larger:
        return below
    # Where only more was measured of the larger one, its least point counts: less is no better.
    best = _best_within(steps, fps, larger)
    return min(below, min(quality for _, _, quality in larger) if best is None else best)


def _best_within(steps: int, fps: int, points: Sequence[Found]) -> float | None:
    """Of the points with no more steps and frames a second; None: there is none."""
    return max((quality for least, rate, quality in points if least <= steps and rate <= fps), default=None)


def load_quality(folder: Path, model: str) -> QualityTable | None:
    """None if nothing was measured yet. Raises ConfigError if the file is broken."""
    path = folder / "quality" / f"{model}.json"
    return load_quality_file(path) if path.is_file() else None


def load_quality_file(path: Path) -> QualityTable:
    """A file that has not changed is not parsed again. Raises ConfigError naming file, key and value."""
    return _parsed(path, file_state(path))


@lru_cache(maxsize=64)
def _parsed(path: Path, state: FileState) -> QualityTable:
    try:
        return QualityTable.model_validate_json(path.read_bytes())
    except ValidationError as error:
        key, message = first_problem(error, QualityTable)
        raise ConfigError(f"{path}: {message}", param=key) from error

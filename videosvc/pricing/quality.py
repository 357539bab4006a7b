"""How good a plan is expected to be: what `videosvc tune` measured, else an order without a scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError

from videosvc.config.size import Size
from videosvc.config.toml_file import Section, first_problem
from videosvc.engine.plan import Plan
from videosvc.errors import ConfigError
from videosvc.pricing.ladder import Candidate


def _size(text: str) -> str:
    Size.parse(text)
    return text


class Point(Section):
    """One measured setting."""

    size: Annotated[str, AfterValidator(_size)]
    steps: int = Field(ge=1)
    sampler: str
    weights: str
    frame_cache: str
    quality: float = Field(ge=0, le=1)

    def is_within(self, plan: Plan) -> bool:
        """Whether `plan` is the same but for a larger size or more steps."""
        size = Size.parse(self.size)
        alike = (self.sampler, self.weights, self.frame_cache) == (plan.sampler, plan.weights, plan.frame_cache)
        return alike and size.width <= plan.width and size.height <= plan.height and self.steps <= plan.steps


class QualityTable(Section):
    """Measured points of one model, `quality/NAME.json` in the configuration folder."""

    format: Literal[1] = 1
    model: str
    points: tuple[Point, ...]

    def quality(self, plan: Plan) -> float | None:
        """The best point at or below the plan: more of anything never counts as worse. None if there is none."""
        return max((point.quality for point in self.points if point.is_within(plan)), default=None)


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

    Measured ones hold for all frame rates; half the frames count as 0.9 of the quality until somebody measures that.
    Where a candidate has no measured point, none counts: ranks alone then tell better from worse, evenly spaced, and
    say nothing of how much.
    """
    if table is not None:
        most = max(candidate.plan.fps for candidate in candidates)
        measured = [table.quality(candidate.plan) for candidate in candidates]
        known = [value for value in measured if value is not None]
        if len(known) == len(candidates):
            rates = (math.log2(most / candidate.plan.fps) for candidate in candidates)
            return [value * 0.9**halvings for value, halvings in zip(known, rates, strict=True)], True
    return [1 - candidate.rank / len(candidates) for candidate in candidates], False

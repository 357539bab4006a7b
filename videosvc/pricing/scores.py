"""How the quality of a clip is judged."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from videosvc.config.models import ModelEntry
from videosvc.config.size import Size
from videosvc.errors import UserError

if TYPE_CHECKING:
    from videosvc.pricing.clip_frames import Frames

ScoreName = Literal["probe", "reference", "clip"]
SCORES: tuple[ScoreName, ...] = ("probe", "reference", "clip")
PROBED = "bundled:toyworld"  # the only model whose pictures the probe can read

Judge = Callable[["Frames"], float]  # from 0 to 1


class Score(Protocol):
    """Judges clips, whatever model made them."""

    @property
    def name(self) -> ScoreName: ...

    @property
    def method(self) -> str:
        """What its numbers are, in words."""

    @property
    def counts(self) -> bool:
        """Whether a clip is either right, 1, or wrong, 0."""

    def judge(self, number: int, prompt: str, references: Mapping[Size, Frames]) -> Judge:
        """For clips of `prompt`, the `number`th from 0. `references`: of the same prompt and seed, by size; the last is
        what all are held against.
        """


def choose_score(asked: str | None, entry: ModelEntry, prompts: Path | None, clip_model: Path | None) -> ScoreName:
    """The score asked for, or the best one there is: the probe, else distance from the reference.

    Loads nothing. Raises UserError (score, prompts, clip_model).
    """
    names = {name: name for name in SCORES}
    if clip_model is not None:
        _check_clip_model(clip_model)
    if asked is None:
        able = has_probe() and entry.path == PROBED and prompts is None
        return "clip" if clip_model is not None else "probe" if able else "reference"
    if asked not in names:
        raise UserError(f"score: {asked!r} is not one of {', '.join(SCORES)}", param="score")
    score = names[asked]
    if score == "probe":
        if entry.path != PROBED:
            raise UserError(f"score: the probe cannot read model {entry.name!r}; use reference", param="score")
        if not has_probe():
            raise UserError("score: the probe is only in a source checkout; use reference", param="score")
        if prompts is not None:
            raise UserError("prompts: the probe asks for scenes of its own; leave them out", param="prompts")
    if (score == "clip") != (clip_model is not None):
        raise UserError("clip_model: goes with score clip: the folder of a CLIP model", param="clip_model")
    return score


def has_probe() -> bool:
    """Whether the bundled model's training code is here: it is in a checkout, and not in the wheel."""
    try:
        return find_spec("training.toyworld.probe") is not None
    except ImportError:
        return False


def _check_clip_model(folder: Path) -> None:
    """Whether `folder` may hold one."""
    try:
        kind = json.loads((folder / "config.json").read_bytes()).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        message = f"clip_model: {str(folder)!r} is no folder of a CLIP model: it has no readable config.json"
        raise UserError(message, param="clip_model") from error
    if kind != "clip":
        raise UserError(f"clip_model: {str(folder)!r} holds a model of type {kind!r}, not clip", param="clip_model")

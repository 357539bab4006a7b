"""What will run: everything the loop needs to know, and nothing that may change the clip is left out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from videosvc.families.load_levers import LoadLevers

LEAST_PART = 1e-6  # of a frame: what a product of floats may be off by; more of one is a frame that was asked for
DRAFTED = 2  # steps of a chunk whose draft is accepted


def frames_of(seconds: float, fps: int) -> int:
    """Frames of a clip that is never shorter than asked for."""
    return max(1, math.ceil(seconds * fps - LEAST_PART))


@dataclass(frozen=True, slots=True)
class Plan:
    """One clip to make. The same plan on the same device and model gives the same file, byte for byte."""

    model: str
    prompt: str
    negative_prompt: str | None  # only read under guidance; None there is the empty prompt
    seed: int
    width: int  # pixels
    height: int
    fps: int
    seconds: float  # at least
    steps: int  # denoising steps for each chunk
    sampler: str
    guidance_scale: float  # 1.0: one forward a step; above: two
    weights: str
    frame_cache: str
    decode: str
    compile: bool = False
    draft_threshold: float | None = None  # disagreement up to which a draft is accepted; with sampler "draft" only
    input_reference: str | None = None  # `Picture.digest` of the picture the clip starts from
    step_cache: str = "none"  # which steps reuse what the one before computed; a resumed clip's begins empty
    later_steps: int | None = None  # of each chunk after the first, which has it to go by; None: `steps`

    @property
    def loading(self) -> LoadLevers:
        return LoadLevers(self.weights, self.compile)

    @property
    def frames(self) -> int:
        return frames_of(self.seconds, self.fps)

    @property
    def clip_seconds(self) -> float:
        """How long the clip is, which is what a price a second goes by: `seconds`, or less than a frame more."""
        return self.frames / self.fps

    @property
    def most_steps(self) -> int:
        """Forwards the first chunk takes at most, which is what a quote counts (two each, under guidance).

        A draft takes two, and if they disagree the second half of `steps`.
        """
        return DRAFTED + self.steps // 2 if self.sampler == "draft" else self.steps

    def steps_of(self, chunk: int) -> int:
        """Forwards that chunk number `chunk`, from 0, takes at most."""
        return self.most_steps if chunk == 0 or self.later_steps is None else min(self.later_steps, self.most_steps)

    def is_whole(self, chunk: int, steps: int) -> bool:
        """Whether a chunk that took so many needed no more; of two steps of a draft a cap may have left no more."""
        return steps == self.steps_of(chunk) or (self.sampler == "draft" and steps == DRAFTED)

    @property
    def size(self) -> str:
        return f"{self.width}x{self.height}"

    def as_dict(self) -> dict[str, Any]:
        """The `plan` object of the public contract."""
        return {
            "size": self.size,
            "fps": self.fps,
            "frames": self.frames,
            "seconds": self.clip_seconds,
            "steps": self.steps,
            "later_steps": self.later_steps,
            "sampler": self.sampler,
            "weights": self.weights,
            "frame_cache": self.frame_cache,
            "decode": self.decode,
            "step_cache": self.step_cache,
            "model": self.model,
            "traded": [],
        }

    def fields(self) -> dict[str, Any]:
        """Everything in it, for JSON; `parse` makes the same plan of it."""
        return {name: getattr(self, name) for name in self.__slots__}  # in a tenth of the time of `asdict`

    @staticmethod
    def parse(values: Mapping[str, Any]) -> Plan:
        """Reads what `fields` gave, also an earlier version's. Raises ValueError naming what is missing or unknown."""
        known = {field.name for field in fields(Plan)}
        needed = {field.name for field in fields(Plan) if field.default is MISSING}
        if odd := (needed - set(values)) | (set(values) - known):
            raise ValueError(f"plan: {', '.join(sorted(odd))}: missing or unknown")
        return Plan(**values)

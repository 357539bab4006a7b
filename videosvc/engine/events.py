"""What a running clip tells whoever drives it. `progress` is from 0 to 1 and never falls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from videosvc.engine.checkpoint import Checkpoint
from videosvc.engine.meter import ComputeReceipt


@dataclass(frozen=True, slots=True)
class TextEncoded:
    unknown_words: tuple[str, ...]  # words of the prompt the model has never seen
    negative_unread: bool  # there is a negative prompt, and no guidance that would read it

    @property
    def warnings(self) -> list[str]:
        """For whoever asked, of a clip that is made all the same; one line each."""
        lines = []
        if self.unknown_words:
            lines.append(f"the model never saw these words: {', '.join(self.unknown_words)}")
        if self.negative_unread:
            lines.append("negative_prompt does nothing: this model runs without guidance (guidance_scale = 1.0)")
        return lines

    @property
    def progress(self) -> float:
        return 0.0


@dataclass(frozen=True, slots=True)
class StepDone:
    chunk: int  # the one in work, from 0
    chunks: int
    step: int  # steps done in it, from 1
    steps: int  # as many as it will have, as far as is known now
    preview: Callable[[], Tensor]  # makes a frame (H, W, 3) uint8 of the clip as it looks now; of the newest event only
    checkpoint: Checkpoint

    @property
    def progress(self) -> float:
        return (self.chunk + self.step / (self.steps + 1)) / self.chunks  # decoding counts as one more step


@dataclass(frozen=True, slots=True)
class Traded:
    """The cap came near: a chunk gets fewer steps than it was to have."""

    chunk: int  # from 0
    steps_before: int
    steps: int  # as many as it will have
    progress: float


@dataclass(frozen=True, slots=True)
class ChunkDone:
    chunk: int  # the one that is finished now, from 0
    chunks: int
    frames: int  # frames in the file: those of all chunks so far, or none before the last one if decoded all at once
    total_frames: int
    pictures: Tensor  # (T, H, W, 3) uint8, on the CPU: the frames that have come into the file with it
    checkpoint: Checkpoint

    @property
    def progress(self) -> float:
        return (self.chunk + 1) / self.chunks


@dataclass(frozen=True, slots=True)
class Done:
    output: Path
    receipt: ComputeReceipt

    @property
    def progress(self) -> float:
        return 1.0


Event = TextEncoded | Traded | StepDone | ChunkDone | Done

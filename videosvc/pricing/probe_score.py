"""Whether the bundled model shows what it was asked for: read back from the frames by the training code's probe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from videosvc.config.size import Size
from videosvc.pricing.clip_frames import Frames
from videosvc.pricing.scores import Judge, ScoreName

if TYPE_CHECKING:
    from training.toyworld.world import Scene


@dataclass(frozen=True, slots=True)
class ProbeScore:
    """Right or wrong: background, colour, shape and motion, all four."""

    scenes: tuple[Scene, ...]  # one for each clip
    name: ScoreName = "probe"
    method: str = "share of clips in which the probe reads all of background, colour, shape and motion as asked for"
    counts: bool = True

    def judge(self, number: int, prompt: str, references: Mapping[Size, Frames]) -> Judge:
        from training.toyworld.probe import read
        from training.toyworld.vocabulary import FPS

        def quality(clip: Frames) -> float:
            frames = torch.from_numpy(clip.at_rate(FPS).pixels).permute(0, 3, 1, 2)
            return float(read(frames).agrees(self.scenes[number])["all four"])

        return quality


def held_out_captions(clips: int, seed: int) -> tuple[tuple[Scene, ...], tuple[str, ...]]:
    """Scenes that the bundled model was never trained on, and what asks for them. Needs the training code."""
    from training.toyworld.evaluate import held_out_scenes

    scenes, captions = zip(*held_out_scenes(clips, seed), strict=True)
    return scenes, captions

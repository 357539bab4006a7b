"""Reads back from a clip's frames what it shows: background, camera, and the kind, colour and motion of its one thing.

No network judges another here: every reading compares the frames with what the renderer would have drawn. So it can be
checked on rendered clips, whose truth is known, and its own error is part of the table in the model card.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor

from training.toyworld import vocabulary as words
from training.toyworld.backgrounds import view
from training.toyworld.poses import MARGIN, catalogue, explained, looks
from training.toyworld.tracks import Sight, motion, sights
from training.toyworld.world import PAN, Scene

ROWS = 64  # larger frames are read at this height: the smallest things still span eight pixels
FRAMES = 16  # at most that many, evenly spread
DIFFERENT = 0.16  # from the background, largest channel difference in [0, 1], for a pixel to belong to a thing
BLURS = (0.0, 0.4, 0.7, 1.0, 1.4)  # standard deviation in pixels
OUTLIER = 0.2  # difference in [0, 1] beyond which a pixel says no more about the background
NUDGES = list(product((0.8, 0.9, 1.0, 1.1, 1.2), (-0.05, 0.0, 0.05), (-0.05, 0.0, 0.05)))  # scale, x, y in boxes


@dataclass(frozen=True, slots=True)
class Reading:
    """What a clip shows. Attributes of the thing are "none" when there is none to be seen."""

    background: str
    camera: str
    kind: str
    colour: str
    motion: str

    def agrees(self, scene: Scene) -> dict[str, bool]:
        thing = scene.things[0]
        right = {
            "background": self.background == scene.background,
            "colour": self.colour == thing.colour,
            "shape": self.kind == thing.kind,
            "motion": self.motion == thing.motion,
        }
        return right | {"all four": all(right.values())}


def read(frames: Tensor) -> Reading:
    """`frames`: (T, 3, H, W) uint8 at 8 frames a second, from the scene's beginning; 8 s of them at most."""
    video = _small(frames.float() / 255)
    background, camera, behind = _background(video, *frames.shape[-2:])
    found = sights((video - behind).abs().amax(1) > DIFFERENT)
    whole = [sight for sight in found if not sight.cut]
    found = whole if len(whole) >= 5 else found
    if len(found) < 3:
        return Reading(background, camera, "none", "none", "none")
    return Reading(background, camera, *_thing(video, behind, found[:: math.ceil(len(found) / FRAMES)]))


def _small(video: Tensor) -> Tensor:
    """(T, 3, H, W) -> (T, 3, ROWS, W ROWS / H)"""
    height, width = video.shape[-2:]
    return F.interpolate(video, (ROWS, round(width * ROWS / height)), mode="area")


@cache
def _behind(background: str, camera: str, blur: float, frames: int, height: int, width: int) -> Tensor:
    """(T, 3, ROWS, ...) in [0, 1]: the background alone, of frames `height` x `width`, `blur` in pixels of ours."""
    shifts = [PAN * frame / words.FPS if camera == "pan" else 0.0 for frame in range(frames)]
    views = np.stack([np.asarray(view(background, height, width, shift)) for shift in shifts])
    small = _small(torch.from_numpy(views).permute(0, 3, 1, 2).float() / 255)
    return torch.from_numpy(gaussian_filter(small.numpy(), (0, 0, blur, blur), mode="nearest"))


def _background(video: Tensor, height: int, width: int) -> tuple[str, str, Tensor]:
    """The nearest one; a thing covers less than half of a frame, and differences beyond `OUTLIER` count alike.

    It is then blurred as much as the clip is: a city's windows, sharp in one and not in the other, look like things.
    """
    some = slice(None, None, max(1, len(video) // 4))

    def behind(name: str, camera: str, blur: float) -> Tensor:
        return _behind(name, camera, blur, len(video), height, width)

    def distance(choice: tuple[str, str, float]) -> float:
        return (video[some] - behind(*choice)[some]).abs().clamp(max=OUTLIER).mean().item()

    name, camera, _ = min(product(words.BACKGROUNDS, words.CAMERAS, BLURS[:1]), key=distance)
    best = min(product([name], [camera], BLURS), key=distance)
    return name, camera, behind(*best)


def _windows(found: list[Sight]) -> Tensor:
    """(T, nudges, 3), in pixels: centres and sides of where to try each pose; a box may miss dark parts."""
    x, y, side = torch.tensor([[sight.x, sight.y, sight.side] for sight in found]).T[..., None]  # (T, 1) each
    scale, right, down = torch.tensor(NUDGES).T
    return torch.stack([x + right * side, y + down * side, MARGIN * scale * side], dim=-1)


def _thing(video: Tensor, behind: Tensor, found: list[Sight]) -> tuple[str, str, str]:
    """Kind, colour and motion: those whose drawing, laid over the background, explains most of what is seen."""
    frames = [sight.frame for sight in found]
    windows = _windows(found)
    gains, nudge = explained(video[frames], behind[frames], windows).max(1)  # (T, poses, colours)
    ways = looks(tuple(frames))
    order = torch.arange(len(frames))
    totals = gains[order, ways.poses].sum(1)  # (ways, colours)
    way, colour = divmod(int(totals.argmax()), totals.shape[1])
    poses = ways.poses[way]
    offset = torch.tensor([[pose.x, pose.y, pose.unit] for pose in (catalogue()[i] for i in poses.tolist())])
    x, y, side = windows[order, nudge[order, poses, colour]].T
    height, width = video.shape[-2:]
    moves = motion(
        frames, (x + offset[:, 0] * side) / width, (y + offset[:, 1] * side) / height, offset[:, 2] * side / height
    )
    if moves == "still" and ways.turning[way]:
        moves = "spins"
    return ways.kinds[way], list(words.COLOURS)[colour], moves

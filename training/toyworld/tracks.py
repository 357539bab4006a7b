"""Where a thing is in each frame, and which of the renderer's motions that is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from training.toyworld import vocabulary as words
from training.toyworld.world import Thing, path

SMALLEST = 0.004  # of the frame: a patch below is a mere speck
GAP = 2  # pixels a thing's parts may be apart, twice over: a boat's sail and hull, when the mast between is too thin
SIZE_WEIGHT = 0.4  # of a change in log size against one in place, both as shares of what motions do
PHASES = 24


@dataclass(frozen=True, slots=True)
class Sight:
    """A thing in one frame, in pixels: its box's middle and longer side; whether the frame's edge cuts it."""

    frame: int
    x: float
    y: float
    side: float
    cut: bool


def sights(masks: Tensor) -> list[Sight]:
    """The largest patch of each frame of `masks` (T, H, W), bool, where there is one."""
    height, width = masks.shape[-2:]
    found = []
    for frame, mask in enumerate(masks.numpy()):
        labels = ndimage.label(ndimage.binary_dilation(mask, iterations=GAP))[0] * mask
        areas = np.bincount(labels.ravel(), minlength=2)[1:]
        if areas.max() < SMALLEST * height * width:
            continue
        rows, columns = ndimage.find_objects(labels)[int(areas.argmax())]
        cut = rows.start == 0 or columns.start == 0 or rows.stop == height or columns.stop == width
        side = max(rows.stop - rows.start, columns.stop - columns.start)
        found.append(Sight(frame, (columns.start + columns.stop) / 2, (rows.start + rows.stop) / 2, side, cut))
    return found


@cache
def _curves() -> tuple[tuple[str, ...], Tensor]:
    """Motions, and (curves, 3, 64): x, y and weighted log size over 8 s as the renderer moves things, never wrapped."""
    times = torch.arange(64) / words.FPS
    names, curves = [], []
    for motion in words.MOTIONS:
        if motion == "spins":
            continue
        count = PHASES if motion in ("bounces", "circles") else 1
        for phase in range(count):
            where = path(Thing("circle", "red", "small", motion, 0.0, 0.0, 2 * math.pi * phase / count), times)
            names.append(motion)
            curves.append(torch.stack([where.x, where.y, SIZE_WEIGHT * where.scale.log()]))
    stacked = torch.stack(curves)
    stacked[:, :2] = _unwrapped(stacked[:, :2], words.SIZES["small"])
    return tuple(names), stacked


def _unwrapped(places: Tensor, radius: float) -> Tensor:
    """Takes back the jumps (..., N) of a thing of `radius` that leaves on one side and comes back on the other."""
    jumps = torch.diff(places, dim=-1, prepend=places[..., :1])
    return places - (1 + 2 * radius) * torch.where(jumps.abs() > 0.5, jumps.sign(), 0.0).cumsum(-1)


def motion(frames: list[int], x: Tensor, y: Tensor, unit: Tensor) -> str:
    """The motion whose curve, moved to where the thing is, lies nearest to its track.

    `x`, `y`, `unit`: (N,), in frame widths and heights, at `frames`. Sums of distances, not of squares, about medians:
    a frame or two that were misread do not bend it.
    """
    places = _unwrapped(torch.stack([x, y]), unit.median().item())
    track = torch.cat([places, SIZE_WEIGHT * unit.log()[None]])
    names, curves = _curves()
    gaps = track - curves[:, :, frames]
    gaps = gaps - gaps.median(dim=2, keepdim=True).values
    return names[int(gaps.abs().sum((1, 2)).argmin())]

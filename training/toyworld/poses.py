"""How each kind of thing looks at every turn the renderer gives it, and how well that explains what is seen.

A pose drawn over background B with own colour c is o c + f + (1 - a) B: opacity a, share o of the own colour, fixed
colours f. It explains 2 D.M - M.M of the squared difference D between frame and background, M = o c + f - a B, which
is linear in a few products of D and B. So all poses at once are one matrix product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from training.toyworld import vocabulary as words
from training.toyworld.sprites import EXTENT, TEXTURE, texture
from training.toyworld.world import Thing, path

WINDOW = 24  # samples a side of the square a pose is compared in
MARGIN = 1.12  # of a window, over the longer side of the thing it is laid around
SOFT = (0.0, 1.3)  # standard deviation in samples of the blur a thing is drawn with: generated ones are seldom sharp
STEPS = 24  # turns tried in a full circle
FOLDS = {"square": 4, "triangle": 1, "star": 5, "heart": 1, "cross": 4}  # how often a full turn shows the same
BRIGHT = 0.45  # largest channel, in [0, 1], above which a part shows before night


@dataclass(frozen=True, slots=True)
class Pose:
    """`layers`: (5, WINDOW, WINDOW), opacity, own share, fixed colours, premultiplied.

    `x`, `y`, `unit`: the object's centre, from the window's, and its unit, in window sides.
    """

    kind: str
    turned: bool
    layers: Tensor
    x: float
    y: float
    unit: float


@dataclass(frozen=True, slots=True)
class Looks:
    """Ways a thing may look in the frames of a clip: `poses` is (ways, frames), indices into `catalogue`."""

    kinds: tuple[str, ...]
    turning: tuple[bool, ...]
    poses: Tensor


def _layers(kind: str) -> list[Image.Image]:
    """A texture is linear in the object's own colour, so that two colours tell which share of each pixel it is."""
    red, blue = (np.asarray(texture(kind, name), dtype=np.float32) / 255 for name in ("red", "blue"))
    colour = np.array(words.COLOURS["red"], dtype=np.float32) / 255
    own = (red[..., 0] - blue[..., 0]) * 255 / (words.COLOURS["red"][0] - words.COLOURS["blue"][0])
    fixed = red[..., :3] - own[..., None] * colour
    return [Image.fromarray(layer) for layer in (red[..., 3], own, *np.moveaxis(fixed, 2, 0).copy())]


def _pose(kind: str, turned: bool, soft: float, layers: list[Image.Image], seen: np.ndarray) -> Pose:
    """The window is laid around where `seen` (TEXTURE, TEXTURE) is true."""
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    side = MARGIN * float(max(right - left, bottom - top))
    x, y = (left + right) / 2, (top + bottom) / 2
    box = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
    scaled = [layer.resize((WINDOW, WINDOW), Image.Resampling.BOX, box=box) for layer in layers]
    stack = torch.from_numpy(gaussian_filter(np.stack([np.asarray(layer) for layer in scaled]), (0, soft, soft)))
    middle, unit = TEXTURE / 2, TEXTURE / (2 * EXTENT)
    return Pose(kind, turned, stack, float(middle - x) / side, float(middle - y) / side, unit / side)


def _upright(kind: str, soft: float, layers: list[Image.Image]) -> list[Pose]:
    """The window is laid around all of it; around a sprite's bright parts as well, for the others vanish at night."""
    opacity, own, *fixed = (np.asarray(layer) for layer in layers)
    poses = [_pose(kind, False, soft, layers, opacity > 0.5)]
    if kind in words.SPRITES:
        poses.append(_pose(kind, False, soft, layers, own + np.max(fixed, axis=0) > BRIGHT))
    return poses


@cache
def catalogue() -> tuple[Pose, ...]:
    """Every pose; a kind's upright one is followed by its turns in even steps, clockwise."""
    poses = []
    for kind, soft in product(words.KINDS, SOFT):
        layers = _layers(kind)
        poses += _upright(kind, soft, layers)
        if kind in words.SPRITES:
            mirrored = [layer.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for layer in layers]
            poses += _upright(kind, soft, mirrored)
        for turn in range(1, turns(kind)):
            degrees = -360 * turn / (turns(kind) * FOLDS[kind])
            turned = [layer.rotate(degrees, Image.Resampling.BILINEAR) for layer in layers]
            poses.append(_pose(kind, True, soft, turned, np.asarray(turned[0]) > 0.5))
    return tuple(poses)


def turns(kind: str) -> int:
    """Turned poses, the upright one among them, until the kind looks the same again."""
    return round(STEPS / FOLDS[kind]) if kind in words.SPINNERS else 1


@cache
def looks(frames: tuple[int, ...]) -> Looks:
    """A thing is upright, facing one way, in all frames, or it turns evenly through them from some phase."""
    poses = catalogue()
    upright = [i for i, pose in enumerate(poses) if not pose.turned]
    kinds = [poses[i].kind for i in upright]
    ways = [torch.full((len(frames),), i) for i in upright]
    spinning = path(Thing("cross", "red", "small", "spins", 0.0, 0.0), torch.tensor(frames) / words.FPS)
    turn = spinning.turn / (2 * math.pi)
    for i, kind in zip(upright, kinds.copy(), strict=True):
        if kind in words.SPINNERS:
            count = turns(kind)
            for phase in range(count):
                kinds.append(kind)
                ways.append(i + ((turn * count * FOLDS[kind]).round().long() + phase) % count)
    turning = [False] * len(upright) + [True] * (len(ways) - len(upright))
    return Looks(tuple(kinds), tuple(turning), torch.stack(ways))


@cache
def _kernels() -> Tensor:
    """(9 WINDOW^2, 5 poses): what `explained`'s products are weighted with; 3 columns times 2 c, one times c.c, one."""
    layers = torch.stack([pose.layers for pose in catalogue()])
    opacity, own, fixed = layers[:, 0], layers[:, 1], layers[:, 2:]
    kernels = torch.zeros(len(layers), 5, 9, WINDOW, WINDOW)
    for channel in range(3):
        kernels[:, channel, channel] = own
        kernels[:, channel, 3 + channel] = own * opacity
        kernels[:, channel, 6] = -own * fixed[:, channel]
    kernels[:, 3, 6] = -own.square()
    kernels[:, 4, :3] = 2 * fixed
    kernels[:, 4, 3:6] = 2 * opacity[:, None] * fixed
    kernels[:, 4, 6] = -fixed.square().sum(1)
    kernels[:, 4, 7] = -2 * opacity
    kernels[:, 4, 8] = -opacity.square()
    return kernels.flatten(2).flatten(0, 1).T.contiguous()


@cache
def palette() -> Tensor:
    """(colours, 3) in [0, 1]"""
    return torch.tensor(list(words.COLOURS.values())) / 255


def explained(frames: Tensor, behind: Tensor, windows: Tensor) -> Tensor:
    """(T, N, poses, colours): how much of the squared difference from the background each pose explains, in pixels.

    `frames`, `behind`: (T, 3, H, W) in [0, 1]. `windows`: (T, N, 3), centre x, y and side in pixels. What lies beyond
    the frame's edge counts for nothing.
    """
    height, width = frames.shape[-2:]
    images = torch.cat([frames - behind, behind, torch.ones_like(frames[:, :1])], dim=1)
    steps = (torch.arange(WINDOW) + 0.5) / WINDOW - 0.5
    x, y, side = windows[..., None].unbind(2)  # (T, N, 1) each
    across = ((x + side * steps) / width * 2 - 1)[:, :, None].expand(-1, -1, WINDOW, -1)
    down = ((y + side * steps) / height * 2 - 1)[..., None].expand(-1, -1, -1, WINDOW)
    grid = torch.stack([across, down], dim=-1).flatten(1, 2)
    views = F.grid_sample(images, grid, align_corners=False).unflatten(2, (-1, WINDOW))  # (T, 7, N, WINDOW, WINDOW)
    views = views * (views[:, 6:] > 0.999)
    difference, ground = views[:, :3], views[:, 3:6]
    products = [(difference * ground).sum(1, keepdim=True), ground.square().sum(1, keepdim=True)]
    features = torch.cat([views, *products], dim=1).transpose(1, 2).flatten(2)
    sums = (features @ _kernels()).unflatten(2, (-1, 5))
    colours = palette()
    per_sample = 2 * sums[..., :3] @ colours.T + sums[..., 3:4] * colours.square().sum(1) + sums[..., 4:]
    gains: Tensor = per_sample * (side[..., None] / WINDOW).square()
    return gains

"""Reads back from a clip's frames what it shows: background, camera, and the kind, colour and motion of its one thing.

No network judges another here: every reading compares the frames with what the renderer would have drawn. So it can be
checked on rendered clips, whose truth is known, and its own error is part of the table in the model card.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage
from torch import Tensor

from training.toyworld import vocabulary as words
from training.toyworld.backgrounds import view
from training.toyworld.sprites import texture
from training.toyworld.world import PAN, Scene, Thing, path

CROP = 40  # pixels a side of the normalised view of a thing
MARGIN = 1.15  # of a crop, over the thing's longer side
DIFFERENT = 0.16  # from the background, largest channel difference in [0, 1], for a pixel to belong to a thing
TURNING = 0.055  # mean change of a normalised crop, in [0, 1], above which a thing turns
TURN_LAG = 3  # frames between the crops compared: 40 degrees, most of a star's or a cross's half period
LOOKS = 6
NUDGES = [(scale, x, y) for scale in (1.0, 1.1, 1.2) for x in (-0.05, 0.0, 0.05) for y in (-0.05, 0.0, 0.05, 0.1)]
TURNS = 12  # poses tried for things that spin


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


@dataclass(frozen=True, slots=True)
class Sight:
    """A thing in one frame: its box in pixels, and whether it is cut off by the frame's edge."""

    frame: int
    left: float
    top: float
    right: float
    bottom: float
    area: int
    cut: bool


def read(frames: Tensor) -> Reading:
    """`frames`: (T, 3, H, W) uint8 at 8 frames a second."""
    video = frames.float() / 255
    background, camera, behind = _background(video)
    sights = _sights((video - behind).abs().amax(1) > DIFFERENT)
    if len(sights) < 3:
        return Reading(background, camera, "none", "none", "none")
    whole = [sight for sight in sights if not sight.cut] or sights
    kind, colour = _thing(video, behind, whole)
    motion = _motion(whole if len(whole) >= 5 else sights, *video.shape[-2:])
    if motion == "still" and kind in words.SPINNERS:
        crops = torch.stack([_crop(video[sight.frame], sight) for sight in whole])
        if (crops[TURN_LAG:] - crops[:-TURN_LAG]).abs().mean() > TURNING:
            motion = "spins"
    return Reading(background, camera, kind, colour, motion)


@cache
def _behind(background: str, camera: str, frames: int, height: int, width: int) -> Tensor:
    """(T, 3, H, W) in [0, 1]: the background alone."""
    shifts = [PAN * frame / words.FPS if camera == "pan" else 0.0 for frame in range(frames)]
    views = np.stack([np.asarray(view(background, height, width, shift)) for shift in shifts])
    return torch.from_numpy(views).permute(0, 3, 1, 2).float() / 255


def _background(video: Tensor) -> tuple[str, str, Tensor]:
    """The background whose median pixel is nearest: a thing covers less than half of a frame."""
    choices = [(name, camera) for name in words.BACKGROUNDS for camera in words.CAMERAS]
    shape = (video.shape[0], *video.shape[-2:])
    distance = [(video - _behind(*choice, *shape)).abs().mean(1).flatten().sort().values for choice in choices]
    kept = int(0.7 * distance[0].numel())
    best = min(range(len(choices)), key=lambda i: distance[i][:kept].mean().item())
    return *choices[best], _behind(*choices[best], *shape)


def _sights(masks: Tensor) -> list[Sight]:
    """The largest connected patch of each frame of `masks` (T, H, W), where it is no mere speck."""
    height, width = masks.shape[-2:]
    sights = []
    for frame, mask in enumerate(masks.numpy()):
        labels, count = ndimage.label(ndimage.binary_closing(mask), np.ones((3, 3)))
        if count == 0:
            continue
        areas = np.bincount(labels.ravel())[1:]
        biggest = int(areas.argmax()) + 1
        if areas[biggest - 1] < 0.004 * height * width:
            continue
        rows, columns = ndimage.find_objects(labels)[biggest - 1]
        cut = rows.start == 0 or columns.start == 0 or rows.stop == height or columns.stop == width
        sights.append(
            Sight(frame, columns.start, rows.start, columns.stop, rows.stop, int(areas[biggest - 1]), cut)
        )
    return sights


def _crop(image: Tensor, sight: Sight) -> Tensor:
    """(3, CROP, CROP): a square window of `image` (3, H, W) around the sight, its longer side at a fixed size."""
    height, width = image.shape[-2:]
    side = MARGIN * max(sight.right - sight.left, sight.bottom - sight.top)
    steps = (torch.arange(CROP) + 0.5) / CROP - 0.5
    x = ((sight.left + sight.right) / 2 + side * steps) / width * 2 - 1
    y = ((sight.top + sight.bottom) / 2 + side * steps) / height * 2 - 1
    grid = torch.stack([x.expand(CROP, CROP), y[:, None].expand(CROP, CROP)], dim=-1)
    return F.grid_sample(image[None], grid[None], padding_mode="border", align_corners=False)[0]


@cache
def _poses() -> tuple[tuple[str, ...], Tensor]:
    """Kinds, and (poses, 5, CROP, CROP): opacity, share of the own colour, and fixed colours, premultiplied."""
    kinds, poses = [], []
    for kind in words.KINDS:
        layers = _layers(kind)
        turned = [layers, layers.transpose(Image.Transpose.FLIP_LEFT_RIGHT)] if kind in words.SPRITES else [layers]
        if kind in words.SPINNERS:
            turned += [layers.rotate(360 * i / TURNS, Image.Resampling.BILINEAR) for i in range(1, TURNS)]
        for image in turned:
            kinds.append(kind)
            poses.append(_normalised(image))
    return tuple(kinds), torch.stack(poses)


class Layers:
    """The five layers of a texture as images, turned and cropped together."""

    def __init__(self, images: list[Image.Image]) -> None:
        self.images = images

    def transpose(self, how: Image.Transpose) -> Layers:
        return Layers([image.transpose(how) for image in self.images])

    def rotate(self, degrees: float, how: Image.Resampling) -> Layers:
        return Layers([image.rotate(degrees, how) for image in self.images])


def _layers(kind: str) -> Layers:
    """A texture is linear in the object's own colour, so that two colours tell which share of each pixel it is."""
    red, blue = (np.asarray(texture(kind, name), dtype=np.float32) / 255 for name in ("red", "blue"))
    (r0, g0, b0), (r1, g1, b1) = (np.array(words.COLOURS[name], dtype=np.float32) / 255 for name in ("red", "blue"))
    own = (red[..., 0] - blue[..., 0]) / (r0 - r1)
    fixed = red[..., :3] - own[..., None] * np.array([r0, g0, b0])
    return Layers([Image.fromarray(layer) for layer in (red[..., 3], own, *np.moveaxis(fixed.astype(np.float32), 2, 0))])


def _normalised(layers: Layers) -> Tensor:
    """(5, CROP, CROP), cut and scaled the way `_crop` does it."""
    stack = torch.from_numpy(np.stack([np.asarray(image) for image in layers.images]))
    rows, columns = (stack[0] > 0.5).any(1).nonzero(), (stack[0] > 0.5).any(0).nonzero()
    box = Sight(0, int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1, 0, False)
    return torch.cat([_crop(stack[:3], box), _crop(stack[2:], box)[1:]])


def _thing(video: Tensor, behind: Tensor, sights: list[Sight]) -> tuple[str, str]:
    """Kind and colour that, drawn over the background, come nearest to what is seen in up to `LOOKS` frames.

    A sight's box may miss thin or dark parts, so boxes a little larger and to either side are tried as well.
    """
    kinds, poses = _poses()
    opacity, own, fixed = poses[:, :1], poses[:, 1:2], poses[:, 2:]
    weight = own.square().sum((-2, -1))  # (poses, 1)
    totals, colours = [], []
    for sight in sights[:: math.ceil(len(sights) / LOOKS)]:
        boxes = [_nudged(sight, *nudge) for nudge in NUDGES]
        seen = torch.stack([_crop(video[sight.frame], box) for box in boxes])[:, None]
        ground = torch.stack([_crop(behind[sight.frame], box) for box in boxes])[:, None]
        rest = seen - ground * (1 - opacity) - fixed  # what the own colour has to explain: (nudges, poses, 3, ...)
        colour = ((rest * own).sum((-2, -1)) / weight).clamp(0, 1)  # least squares
        errors = (rest - own * colour[..., None, None]).square().mean((2, 3, 4))
        best = errors.min(0)
        totals.append(best.values)
        colours.append(colour[best.indices, torch.arange(len(kinds))])
    errors = torch.stack(totals)  # (looks, poses)
    mine = {kind: [i for i, name in enumerate(kinds) if name == kind] for kind in words.KINDS}
    kind = min(mine, key=lambda name: errors[:, mine[name]].amin(1).mean().item())
    pose = errors[:, mine[kind]].argmin(1)
    own_colour = torch.stack(colours)[:, mine[kind]][torch.arange(len(errors)), pose].median(0).values
    palette = torch.tensor(list(words.COLOURS.values())) / 255
    return kind, list(words.COLOURS)[int((palette - own_colour).square().sum(1).argmin())]


def _nudged(sight: Sight, scale: float, x: float, y: float) -> Sight:
    """The sight's box scaled about its middle and moved, in shares of its longer side."""
    side = max(sight.right - sight.left, sight.bottom - sight.top)
    middle_x, middle_y = (sight.left + sight.right) / 2 + x * side, (sight.top + sight.bottom) / 2 + y * side
    half_x, half_y = (sight.right - sight.left) / 2 * scale, (sight.bottom - sight.top) / 2 * scale
    return replace(
        sight, left=middle_x - half_x, right=middle_x + half_x, top=middle_y - half_y, bottom=middle_y + half_y
    )


@cache
def _curves() -> tuple[tuple[str, ...], Tensor]:
    """Motions, and (curves, 3, 64): x, y and log size over 8 s as the renderer moves things, from several phases."""
    times = torch.arange(64) / words.FPS
    names, curves = [], []
    for motion in words.MOTIONS:
        if motion == "spins":
            continue
        phases = [2 * math.pi * i / 16 for i in range(16)] if motion in ("bounces", "circles") else [0.0]
        for phase in phases:
            where = path(Thing("circle", "red", "small", motion, 0.0, 0.0, phase), times)
            names.append(motion)
            curves.append(torch.stack([where.x, where.y, 0.4 * where.scale.log()]))
    unwrapped = torch.stack(curves)
    jumps = torch.diff(unwrapped[:, :2], dim=-1, prepend=unwrapped[:, :2, :1])
    around = 1 + 2 * words.SIZES["small"]
    unwrapped[:, :2] -= around * torch.where(jumps.abs() > 0.5, jumps.sign(), 0.0).cumsum(-1)
    return tuple(names), unwrapped


def _motion(sights: list[Sight], height: int, width: int) -> str:
    """The motion whose curve, moved to where the thing is, lies nearest to its track."""
    track = torch.tensor(
        [
            [
                (sight.left + sight.right) / 2 / width,
                (sight.top + sight.bottom) / 2 / height,
                0.4 * math.log(max(sight.right - sight.left, sight.bottom - sight.top)),
            ]
            for sight in sights
        ]
    ).T  # (3, N)
    names, curves = _curves()
    curves = curves[:, :, [sight.frame for sight in sights]]
    gaps = (track - track.mean(1, keepdim=True))[None] - (curves - curves.mean(2, keepdim=True))
    return names[int(gaps.square().sum((1, 2)).argmin())]

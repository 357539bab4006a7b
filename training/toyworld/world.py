"""Scenes and their renderer: what is in a clip, and the frames that show it.

Every scene goes on for as long as it is watched: objects that leave on one side come back on the other, growth slows
down, bounces and circles repeat.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from training.toyworld import vocabulary as words
from training.toyworld.backgrounds import view
from training.toyworld.sprites import EXTENT, TEXTURE, texture

SPEED = 0.26  # frame widths or heights per second, for everything that travels
PAN = 0.12  # frame widths a second
REACH = 1.45  # how far, in object units, a turned object reaches from its centre


@dataclass(frozen=True, slots=True)
class Thing:
    """One object. `x`, `y` are where it starts, in frame widths and heights; `phase` in radians shifts what repeats."""

    kind: str
    colour: str
    size: str
    motion: str
    x: float
    y: float
    phase: float = 0.0


@dataclass(frozen=True, slots=True)
class Scene:
    things: tuple[Thing, ...]
    background: str
    camera: str = "fixed"


@dataclass(frozen=True, slots=True)
class Path:
    """Where an object is at each time, all (T,): centre in frame units, scale of its size, turn in radians."""

    x: Tensor
    y: Tensor
    scale: Tensor
    turn: Tensor


def path(thing: Thing, times: Tensor) -> Path:
    """`times`: (T,) seconds since the scene began."""
    x, y = torch.full_like(times, thing.x), torch.full_like(times, thing.y)
    scale, turn = torch.ones_like(times), torch.zeros_like(times)
    radius = words.SIZES[thing.size]
    match thing.motion:
        case "right" | "left":
            travelled = SPEED * times * (1 if thing.motion == "right" else -1)
            x = (x + travelled + radius) % (1 + 2 * radius) - radius
        case "up" | "down":
            travelled = SPEED * times * (1 if thing.motion == "down" else -1)
            y = (y + travelled + radius) % (1 + 2 * radius) - radius
        case "grows":
            scale = 1.5 - 0.95 * torch.exp(-times / 1.2)
        case "shrinks":
            scale = 0.5 + 0.95 * torch.exp(-times / 1.2)
        case "spins":
            # From upright: with a random first angle the model kept the shape of one spinning thing in nine. Slowly: a
            # latent holds half a second, and at 0.3 turns a second the autoencoder itself lost one shape in five.
            turn = 2 * math.pi * 0.15 * times
        case "bounces":
            y = y - 0.26 * torch.sin(math.pi * 1.0 * times + thing.phase).abs()
        case "circles":
            angle = thing.phase + 2 * math.pi * 0.4 * times
            x, y = x + 0.2 * torch.cos(angle), y + 0.2 * torch.sin(angle)
    return Path(x, y, scale, turn)


def _place(
    thing: Thing, x: float, y: float, scale: float, turn: float, canvas: Image.Image, covered: Image.Image
) -> None:
    """Draws the thing with its centre at `x`, `y` (frame units), to a fraction of a pixel."""
    image = texture(thing.kind, thing.colour)
    if thing.motion == "left":
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if turn:
        image = image.rotate(-math.degrees(turn), Image.Resampling.BILINEAR)
    unit = words.SIZES[thing.size] * scale * canvas.height  # pixels
    centre_x, centre_y = x * canvas.width, y * canvas.height
    left, top = math.floor(centre_x - REACH * unit), math.floor(centre_y - REACH * unit)
    right, bottom = math.ceil(centre_x + REACH * unit), math.ceil(centre_y + REACH * unit)
    texels = TEXTURE / (2 * EXTENT * unit)  # a pixel
    box = (
        TEXTURE / 2 + (left - centre_x) * texels,
        TEXTURE / 2 + (top - centre_y) * texels,
        TEXTURE / 2 + (right - centre_x) * texels,
        TEXTURE / 2 + (bottom - centre_y) * texels,
    )
    sprite = image.resize((right - left, bottom - top), Image.Resampling.BOX, box=box).convert("RGBA")
    canvas.paste(sprite, (left, top), sprite)
    covered.paste(255, (left, top), sprite)


def render(scene: Scene, height: int, width: int, frames: int, start_s: float = 0.0) -> tuple[Tensor, Tensor]:
    """Draws `frames` frames at 8 a second: (T, 3, H, W) uint8, and where things are: (T, H, W) bool."""
    times = start_s + torch.arange(frames) / words.FPS
    paths = [path(thing, times) for thing in scene.things]
    pixels, masks = [], []
    for frame, time in enumerate(times.tolist()):
        canvas = view(scene.background, height, width, PAN * time if scene.camera == "pan" else 0.0)
        covered = Image.new("L", (width, height))
        for thing, where in zip(scene.things, paths, strict=True):
            x, y, scale, turn = (part[frame].item() for part in (where.x, where.y, where.scale, where.turn))
            _place(thing, x, y, scale, turn, canvas, covered)
        pixels.append(np.asarray(canvas))
        masks.append(np.asarray(covered))
    drawn = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
    return drawn, torch.from_numpy(np.stack(masks)) > 25


def _start(motion: str, size: str, rng: random.Random) -> tuple[float, float]:
    """A place to start from such that the first two seconds stay in the frame."""
    margin = words.SIZES[size] + 0.03
    near, far = rng.uniform(margin, margin + 0.14), rng.uniform(margin, 1 - margin)
    middle = rng.uniform(0.36, 0.64)
    match motion:
        case "right":
            return near, far
        case "left":
            return 1 - near, far
        case "down":
            return far, near
        case "up":
            return far, 1 - near
        case "bounces":
            return rng.uniform(margin, 1 - margin), 1 - margin - rng.uniform(0, 0.06)
        case "circles":
            return rng.uniform(0.42, 0.58), rng.uniform(0.42, 0.58)
        case "grows" | "shrinks":
            return middle, rng.uniform(0.36, 0.64)
    return far, rng.uniform(margin, 1 - margin)


def sample_thing(rng: random.Random, motions: tuple[str, ...] = words.MOTIONS) -> Thing:
    motion = rng.choice(motions)
    kind = rng.choice(words.SPINNERS if motion == "spins" else words.KINDS)
    size = rng.choice(list(words.SIZES))
    x, y = _start(motion, size, rng)
    return Thing(kind, rng.choice(list(words.COLOURS)), size, motion, x, y, rng.uniform(0, 2 * math.pi))


def sample_scene(rng: random.Random) -> Scene:
    """One thing in four scenes out of five; else two, side by side. The camera pans in one scene of twelve."""
    background = rng.choice(words.BACKGROUNDS)
    if rng.random() < 0.2:
        pair = []
        for x in (rng.uniform(0.22, 0.28), rng.uniform(0.72, 0.78)):
            thing = sample_thing(rng, words.PAIR_MOTIONS)
            size = "medium" if thing.size == "large" else thing.size
            pair.append(Thing(thing.kind, thing.colour, size, thing.motion, x, thing.y, thing.phase))
        return Scene(tuple(pair), background)
    return Scene((sample_thing(rng),), background, "pan" if rng.random() < 1 / 12 else "fixed")

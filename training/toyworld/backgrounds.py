"""Draws the backgrounds: panoramas twice as wide as a frame that close on themselves, so that a camera can pan."""

from __future__ import annotations

import math
import random
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from training.toyworld.vocabulary import BACKGROUNDS, RGB

HEIGHT, WIDTH = 384, 768


def _gradient(top: RGB, bottom: RGB) -> Image.Image:
    ramp = np.linspace(0, 1, HEIGHT)[:, None, None]
    rows = np.array(top) * (1 - ramp) + np.array(bottom) * ramp
    return Image.fromarray(np.broadcast_to(rows, (HEIGHT, WIDTH, 3)).astype(np.uint8))


def _hills(pen: ImageDraw.ImageDraw, base: float, swing: float, waves: int, phase: float, fill: RGB) -> None:
    """A rolling line at `base` of the height; a whole number of waves, so that the panorama closes."""
    line = [
        (x, HEIGHT * (base + swing * math.sin(2 * math.pi * waves * x / WIDTH + phase))) for x in range(0, WIDTH + 1, 4)
    ]
    pen.polygon([(0, HEIGHT), *line, (WIDTH, HEIGHT)], fill=fill)


def _cloud(pen: ImageDraw.ImageDraw, x: float, y: float, size: float) -> None:
    for dx, dy, r in ((-1.0, 0.1, 0.7), (0.0, -0.2, 1.0), (1.0, 0.1, 0.75)):
        box = (x + (dx - r) * size, y + (dy - 0.6 * r) * size, x + (dx + r) * size, y + (dy + 0.6 * r) * size)
        pen.ellipse(box, fill=(250, 252, 255))


def _paint(name: str) -> Image.Image:
    match name:
        case "sky":
            image = _gradient((120, 190, 250), (205, 232, 252))
            pen = ImageDraw.Draw(image)
            for x, y, size in ((90, 90, 40), (330, 260, 34), (520, 110, 44), (680, 300, 30)):
                _cloud(pen, x, y, size)
        case "hills":
            image = _gradient((165, 215, 250), (225, 240, 250))
            pen = ImageDraw.Draw(image)
            _hills(pen, 0.62, 0.07, 2, 0.5, (150, 205, 120))
            _hills(pen, 0.78, 0.05, 3, 2.0, (115, 180, 90))
        case "desert":
            image = _gradient((250, 225, 170), (252, 240, 215))
            pen = ImageDraw.Draw(image)
            _hills(pen, 0.65, 0.05, 2, 1.0, (225, 180, 110))
            _hills(pen, 0.82, 0.04, 4, 0.0, (205, 155, 85))
        case "sea":
            image = _gradient((200, 232, 245), (235, 246, 250))
            pen = ImageDraw.Draw(image)
            _hills(pen, 0.55, 0.0, 1, 0.0, (70, 160, 190))
            _hills(pen, 0.68, 0.015, 8, 0.0, (50, 135, 175))
            _hills(pen, 0.82, 0.02, 6, 1.5, (35, 110, 155))
        case "night":
            image = _gradient((15, 18, 50), (45, 50, 100))
            pen = ImageDraw.Draw(image)
            stars = random.Random(3)
            for _ in range(26):
                left, top, r = stars.uniform(0, WIDTH), stars.uniform(0, HEIGHT), stars.uniform(3, 5)
                pen.ellipse((left - r, top - r, left + r, top + r), fill=(240, 240, 210))
            pen.ellipse((270, 35, 340, 105), fill=(245, 240, 200))
        case "city":
            image = _gradient((35, 25, 60), (95, 60, 110))
            pen = ImageDraw.Draw(image)
            blocks = random.Random(11)
            for x in range(0, WIDTH, 64):
                top = HEIGHT * blocks.uniform(0.4, 0.72)
                pen.rectangle((x, top, x + 56, HEIGHT), fill=(28, 28, 42))
                for wx in (x + 8, x + 32):
                    for wy in range(int(top) + 14, HEIGHT - 16, 36):
                        if blocks.random() < 0.6:
                            pen.rectangle((wx, wy, wx + 14, wy + 16), fill=(250, 215, 120))
        case "snow":
            image = _gradient((190, 205, 220), (225, 232, 240))
            pen = ImageDraw.Draw(image)
            for x in range(30, WIDTH, 96):
                pen.polygon([(x, 275), (x + 28, 170), (x + 56, 275)], fill=(60, 105, 95))
            _hills(pen, 0.7, 0.03, 3, 0.7, (240, 244, 250))
        case "sunset":
            image = _gradient((120, 60, 130), (255, 160, 90))
            pen = ImageDraw.Draw(image)
            for x in (192, 576):
                pen.ellipse((x - 75, 215, x + 75, 365), fill=(255, 225, 130))
            _hills(pen, 0.76, 0.03, 2, 0.0, (85, 45, 80))
        case _:
            raise ValueError(f"background: {name!r} is not one of {', '.join(BACKGROUNDS)}")
    return image


@cache
def _panorama(name: str) -> Image.Image:
    """Two and a half turns of it side by side, so that any window up to a turn wide lies within."""
    once = _paint(name)
    image = Image.new("RGB", (WIDTH * 5 // 2, HEIGHT))
    for turn in range(3):
        image.paste(once, (turn * WIDTH, 0))
    return image


@cache
def _view(name: str, height: int, width: int, left: float) -> Image.Image:
    return _panorama(name).resize(
        (width, height), Image.Resampling.BOX, box=(left, 0, left + HEIGHT * width / height, HEIGHT)
    )


def view(name: str, height: int, width: int, shift: float = 0.0) -> Image.Image:
    """The panorama seen `shift` frame widths to the right of where it begins. `width` is at most 2 `height`."""
    return _view(name, height, width, round(shift * HEIGHT * width / height) % WIDTH).copy()

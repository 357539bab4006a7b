"""Draws every kind of object once, as a texture with its own transparency; a scene only places them."""

from __future__ import annotations

import math
from functools import cache

from PIL import Image, ImageDraw

from training.toyworld.vocabulary import COLOURS, KINDS, RGB

TEXTURE = 160  # pixels a side; in a 128-pixel frame an object and its margin span 140 of them at most
OVERSAMPLING = 6
OUTLINE = (40, 40, 55)
EXTENT = 1.75  # a texture spans [-EXTENT, EXTENT] object units: room for turned corners and a pixel of nothing around

Points = list[tuple[float, float]]


def polygon(corners: int, inner: float = 1.0, turn: float = -math.pi / 2) -> Points:
    """A regular polygon of radius 1, or a star when every second corner is at `inner`."""
    radii = [1.0 if i % 2 == 0 else inner for i in range(corners)]
    angles = [turn + 2 * math.pi * i / corners for i in range(corners)]
    return [(r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]


def heart() -> Points:
    turns = [2 * math.pi * i / 60 for i in range(60)]
    return [
        (math.sin(a) ** 3, -(13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a)) / 16)
        for a in turns
    ]


class Brush:
    """Draws in object units (x right, y down, both in [-EXTENT, EXTENT]) with a dark outline around every part."""

    def __init__(self, body: RGB) -> None:
        self.body = body
        self.side = TEXTURE * OVERSAMPLING
        self.image = Image.new("RGBA", (self.side, self.side), (*OUTLINE, 0))
        self.pen = ImageDraw.Draw(self.image)
        self.line = round(self.side * 0.025)

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        return ((x / EXTENT + 1) / 2 * self.side, (y / EXTENT + 1) / 2 * self.side)

    def shape(self, points: Points, fill: RGB | None = None) -> None:
        corners = [self.pixel(x, y) for x, y in points]
        self.pen.polygon(corners, fill=fill or self.body)
        self.pen.line([*corners, corners[0], corners[1]], fill=OUTLINE, width=self.line, joint="curve")

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: RGB | None = None) -> None:
        box = [self.pixel(x - rx, y - ry), self.pixel(x + rx, y + ry)]
        self.pen.ellipse(box, fill=fill or self.body, outline=OUTLINE, width=self.line)

    def hole(self, radius: float) -> None:
        outer, inner = radius, radius - 0.09
        self.pen.ellipse([self.pixel(-outer, -outer), self.pixel(outer, outer)], fill=OUTLINE)
        self.pen.ellipse([self.pixel(-inner, -inner), self.pixel(inner, inner)], fill=(*OUTLINE, 0))

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: RGB | None = None) -> None:
        self.shape([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], fill)


WHITE, GREY, GLASS, FLAME, WOOD = (250, 250, 250), (70, 70, 80), (190, 225, 245), (255, 170, 40), (140, 90, 50)


def _draw(kind: str, brush: Brush) -> None:
    match kind:
        case "circle":
            brush.ellipse(0, 0, 1, 1)
        case "square":
            brush.box(-0.85, -0.85, 0.85, 0.85)
        case "triangle":
            brush.shape([(0, -0.95), (1, 0.8), (-1, 0.8)])
        case "star":
            brush.shape(polygon(10, inner=0.42))
        case "heart":
            brush.shape(heart())
        case "cross":
            a, b = 0.32, 0.98
            brush.shape([(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b), (-a, b), (-a, a), (-b, a),
                         (-b, -a), (-a, -a)])  # fmt: skip
        case "ring":
            brush.ellipse(0, 0, 1, 1)
            brush.hole(0.55)
        case "balloon":
            brush.pen.line([brush.pixel(0, 0.5), brush.pixel(0, 1.15)], fill=OUTLINE, width=brush.line)
            brush.shape([(-0.15, 0.62), (0.15, 0.62), (0, 0.4)])
            brush.ellipse(0, -0.3, 0.68, 0.8)
        case "boat":
            brush.box(-0.06, -1.0, 0.06, 0.4, WOOD)
            brush.shape([(0.06, -1.0), (0.06, 0.2), (0.85, 0.2)], WHITE)
            brush.shape([(-1.1, 0.35), (1.1, 0.35), (0.7, 0.9), (-0.7, 0.9)])
        case "car":
            brush.shape([(-0.6, -0.1), (-0.4, -0.6), (0.35, -0.6), (0.65, -0.1)], GLASS)
            brush.box(-1.15, -0.1, 1.15, 0.45)
            for x in (-0.6, 0.6):
                brush.ellipse(x, 0.5, 0.3, 0.3, GREY)
        case "fish":
            brush.shape([(-0.5, 0), (-1.15, -0.6), (-1.15, 0.6)])
            brush.ellipse(0.2, 0, 0.9, 0.6)
            brush.ellipse(0.65, -0.15, 0.14, 0.14, WHITE)
        case "rocket":
            brush.shape([(-0.3, 0.75), (0.3, 0.75), (0, 1.2)], FLAME)
            brush.shape([(-0.75, 0.8), (-0.3, 0.1), (-0.3, 0.8)], GREY)
            brush.shape([(0.75, 0.8), (0.3, 0.1), (0.3, 0.8)], GREY)
            brush.shape([(0, -1.15), (0.36, -0.5), (0.36, 0.8), (-0.36, 0.8), (-0.36, -0.5)])
            brush.ellipse(0, -0.25, 0.17, 0.17, GLASS)
        case "bird":
            brush.shape([(0.75, -0.15), (1.2, 0.0), (0.75, 0.15)], FLAME)
            brush.ellipse(0.05, 0.1, 0.85, 0.42)
            brush.shape([(-0.5, 0.05), (-0.25, -1.0), (0.35, 0.0)])
            brush.ellipse(0.6, 0.0, 0.1, 0.1, WHITE)
        case _:
            raise ValueError(f"kind: {kind!r} is not one of {', '.join(KINDS)}")


@cache
def texture(kind: str, colour: str) -> Image.Image:
    """`TEXTURE` pixels a side, facing right; RGBa, premultiplied once here, as resizing needs it each time."""
    brush = Brush(COLOURS[colour])
    _draw(kind, brush)
    return brush.image.reduce(OVERSAMPLING).convert("RGBa")

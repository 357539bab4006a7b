"""What toyworld can show: the attributes of a scene and the colours they are drawn in."""

from __future__ import annotations

RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "red": (225, 45, 45),
    "orange": (250, 140, 20),
    "yellow": (250, 215, 40),
    "green": (35, 150, 60),
    "cyan": (40, 205, 215),
    "blue": (40, 80, 225),
    "purple": (135, 50, 180),
    "pink": (250, 120, 185),
    "white": (245, 245, 245),
}
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "ring")
SPRITES = ("balloon", "boat", "car", "fish", "rocket", "bird")
KINDS = SHAPES + SPRITES
SIZES = {"small": 0.15, "medium": 0.2, "large": 0.25}  # half the object's height, in frame heights
MOTIONS = ("right", "left", "up", "down", "grows", "shrinks", "spins", "bounces", "circles", "still")
BACKGROUNDS = ("sky", "hills", "desert", "sea", "night", "city", "snow", "sunset")
CAMERAS = ("fixed", "pan")

SPINNERS = ("square", "triangle", "star", "heart", "cross")  # a turning circle looks like a still one
PAIR_MOTIONS = ("up", "down", "grows", "shrinks", "still", "bounces")  # what two objects can do side by side
FPS = 8

"""Says in words what a scene shows, in many ways; and the word list the tokenizer knows."""

from __future__ import annotations

import random
import re
import zlib

from training.toyworld import vocabulary as words
from training.toyworld.world import Scene, Thing

COLOURS = {
    "red": ("red", "red", "crimson", "scarlet"),
    "orange": ("orange", "orange", "tangerine"),
    "yellow": ("yellow", "yellow", "golden"),
    "green": ("green", "green", "emerald"),
    "cyan": ("cyan", "turquoise", "teal"),
    "blue": ("blue", "blue", "navy"),
    "purple": ("purple", "purple", "violet"),
    "pink": ("pink", "pink", "rose"),
    "white": ("white", "white", "pale"),
}
KINDS = {
    "circle": ("circle", "disc", "ball", "dot"),
    "square": ("square", "box", "block"),
    "triangle": ("triangle", "pyramid"),
    "star": ("star",),
    "heart": ("heart",),
    "cross": ("cross", "plus sign"),
    "ring": ("ring", "donut", "hoop"),
    "balloon": ("balloon",),
    "boat": ("boat", "sailboat", "ship"),
    "car": ("car", "automobile"),
    "fish": ("fish",),
    "rocket": ("rocket", "spaceship"),
    "bird": ("bird",),
}
SIZES = {"small": ("small", "little", "tiny"), "medium": ("medium", "mid sized"), "large": ("large", "big", "huge")}
TRAVELS = ("moves", "drifts", "glides", "travels", "goes", "flies", "drives", "sails", "swims", "floats", "slides")
MOTIONS = {
    "right": (
        *(f"{verb} {way}" for verb in TRAVELS for way in ("right", "to the right", "from left to right")),
        *("drives", "flies", "sails", "swims"),
    ),
    "left": tuple(f"{verb} {way}" for verb in TRAVELS for way in ("left", "to the left", "from right to left")),
    "up": ("moves up", "rises", "floats up", "flies up", "goes up", "drifts upward", "climbs", "lifts off"),
    "down": ("moves down", "falls", "sinks", "floats down", "goes down", "drifts downward", "drops", "comes down"),
    "grows": ("grows", "gets bigger", "gets larger", "swells", "expands", "is growing"),
    "shrinks": ("shrinks", "gets smaller", "dwindles", "contracts", "is shrinking"),
    "spins": ("spins", "rotates", "turns around", "spins around", "whirls", "is spinning"),
    "bounces": ("bounces", "bounces up and down", "hops", "jumps up and down", "jumps", "is bouncing"),
    "circles": (
        *("circles", "goes in circles", "moves in a circle", "orbits", "goes round and round", "flies in circles"),
    ),
    "still": ("stays still", "stands still", "does not move", "rests", "waits", "is still", "stays in place"),
}
BACKGROUNDS = {
    "sky": ("in the sky", "in a blue sky", "among clouds", "in the clouds", "under a blue sky", "in the air"),
    "hills": ("over green hills", "over hills", "on a meadow", "over a green meadow", "on the grass", "in the hills"),
    "desert": ("in the desert", "over sand dunes", "on the sand", "over the desert", "in a sandy desert"),
    "sea": ("on the sea", "over the ocean", "on the waves", "over waves", "over the sea", "on the water", "in the sea"),
    "night": ("at night", "under the stars", "in a starry night", "in the night sky", "in space", "under the moon"),
    "city": ("in a city at night", "over a city at night", "through a city at night", "in the city", "over the city",
             "in front of city lights", "over the rooftops"),
    "snow": ("in the snow", "over a snowy forest", "in winter", "on a snowy field", "over the snow"),
    "sunset": ("at sunset", "at dusk", "in the evening", "in the evening sun", "in front of a sunset"),
}  # fmt: skip
CAMERA = ("while the camera pans", "and the camera pans right", "the camera moves right", "with a panning camera")
OPENINGS = ("", "", "", "a video of", "a clip of", "we see")


def _thing(thing: Thing, rng: random.Random, brief: bool) -> str:
    size = "" if brief or rng.random() < 0.35 else rng.choice(SIZES[thing.size])
    phrase = f"{size} {rng.choice(COLOURS[thing.colour])} {rng.choice(KINDS[thing.kind])}".strip()
    article = rng.choice(("a", "a", "the", "one"))
    if article == "a" and phrase[0] in "aeiou":
        article = "an"
    return f"{article} {phrase}"


def caption(scene: Scene, rng: random.Random) -> str:
    """One of many ways to say what `scene` shows; sizes are often left out, the rest always said."""
    parts = [
        f"{_thing(thing, rng, len(scene.things) > 1)} {rng.choice(MOTIONS[thing.motion])}" for thing in scene.things
    ]
    body = rng.choice((" and ", ", ", " while ")).join(parts)
    place = rng.choice(BACKGROUNDS[scene.background])
    sentence = f"{place}, {body}" if rng.random() < 0.2 else f"{rng.choice(OPENINGS)} {body} {place}".strip()
    return f"{sentence}, {rng.choice(CAMERA)}" if scene.camera == "pan" else sentence


def split_words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def vocabulary() -> list[str]:
    """Every word a caption can use, sorted."""
    tables = (COLOURS, KINDS, SIZES, MOTIONS, BACKGROUNDS, {"rest": (*CAMERA, *OPENINGS)})
    phrases = [phrase for table in tables for choices in table.values() for phrase in choices]
    return sorted({word for phrase in [*phrases, "a an the one and while"] for word in split_words(phrase)})


def held_out(scene: Scene) -> bool:
    """One combination in ten of kind, colour, motion and background is never trained on: the probe asks for those."""
    first = scene.things[0]
    key = f"{first.kind} {first.colour} {first.motion} {scene.background}"
    return zlib.crc32(key.encode()) % 10 == 0


ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "background": words.BACKGROUNDS,
    "camera": words.CAMERAS,
    **{
        f"{name} {i}": (*values, "none")
        for i in (1, 2)
        for name, values in {
            "kind": words.KINDS,
            "colour": tuple(words.COLOURS),
            "motion": words.MOTIONS,
        }.items()
    },
}


def attributes(scene: Scene) -> list[int]:
    """The scene as class indices, one for each of `ATTRIBUTES`; a second thing that is not there is "none"."""
    said = {"background": scene.background, "camera": scene.camera}
    for i in (1, 2):
        thing = scene.things[i - 1] if i <= len(scene.things) else None
        said |= {f"{name} {i}": getattr(thing, name) if thing else "none" for name in ("kind", "colour", "motion")}
    return [values.index(said[name]) for name, values in ATTRIBUTES.items()]

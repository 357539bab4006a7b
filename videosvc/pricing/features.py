"""A plan as amounts of work: the features that a device's seconds are fitted to.

Each piece of a run is of one kind, and each kind has its features. Seconds of a piece = features x coefficients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

from videosvc.config.size import Size
from videosvc.engine.plan import Plan
from videosvc.families.latent_spec import LatentSpec
from videosvc.pricing.frame_memory import FrameMemory
from videosvc.pricing.shape import ModelShape

Kind = Literal["text", "denoise", "decode", "mux", "finish"]
Features = tuple[float, ...]

FEATURES: Mapping[Kind, tuple[str, ...]] = MappingProxyType(
    {
        "text": ("texts",),  # encoded: one, or two under guidance
        # A forward of one chunk through the transformer. Pairs: each token with each it attends to, cache included.
        "denoise": ("forwards", "kilotokens", "megapairs"),
        "decode": ("chunks", "megapixels"),  # a chunk of each tile, if tiled, and the pixels of all tiles
        "mux": ("chunks", "megapixels"),
        "finish": ("files", "megapixels"),  # the encoder holds back frames until the end
    }
)
# The stage of a receipt that each kind is counted in.
STAGE: Mapping[Kind, str] = MappingProxyType(
    {"text": "text", "denoise": "denoise", "decode": "decode", "mux": "mux", "finish": "mux"}
)


@dataclass(frozen=True, slots=True)
class ChunkFeatures:
    denoise: Features  # of one step
    decode: Features
    mux: Features
    # Of an older chunk that is encoded coarsely when this one is finished; None: there is none.
    coarse: Features | None = None

    @property
    def append(self) -> Features:
        """Of taking it into the frame cache: a forward like a step's, and the coarse one before it."""
        if self.coarse is None:
            return self.denoise
        return tuple(map(sum, zip(self.denoise, self.coarse, strict=True)))


@dataclass(frozen=True, slots=True)
class RunFeatures:
    """The pieces of a plan in the order they come; its number of steps is not in them."""

    text: Features
    chunks: tuple[ChunkFeatures, ...]
    finish: Features
    # That the clip starts from: a forward to take it into the frame cache, and its frames encoded, which costs about
    # what decoding them does. It is counted in the stage of the text.
    picture: ChunkFeatures | None = None


def run_features(plan: Plan, shape: ModelShape) -> RunFeatures:
    guided, from_picture = plan.guidance_scale > 1.0, plan.input_reference is not None
    return _run_features(Size(plan.width, plan.height), plan.frames, plan.decode, guided, from_picture, shape)


@lru_cache(maxsize=1024)  # a quote prices some ten sizes and rates, mostly those of the quote before
def _run_features(
    size: Size, frames: int, decode: str, guided: bool, from_picture: bool, shape: ModelShape
) -> RunFeatures:
    spec = shape.spec
    batch = 2 if guided else 1
    still = spec.first_chunk if from_picture else 0  # latents that the picture makes
    per_latent = (size.width // spec.grid) * (size.height // spec.grid)
    megapixels = size.pixels / 1e6  # of a frame
    tiles, overlapping = _tiles(size, spec) if decode == "tiled" else (1.0, 1.0)
    sizes = spec.chunks(frames, from_picture)
    memory = FrameMemory(shape)

    def forward(latents: float, context: float) -> Features:
        tokens, context = latents * per_latent, context * per_latent
        return (1.0, batch * tokens / 1e3, batch * tokens * (tokens + context) / 1e6)

    picture = None
    unseen = max(0, spec.frames_of(0, still) - 1)
    if still:
        encoded = (1.0, (unseen + 1) * megapixels)
        picture = ChunkFeatures(denoise=forward(still, 0), decode=encoded, mux=(0.0, 0.0))
        memory.append(still)
    chunks: list[ChunkFeatures] = []
    latents, written, waiting = 0, 0, still
    for chunk, new in enumerate(sizes):
        waiting += new
        due = waiting if decode != "full" or chunk + 1 == len(sizes) else 0
        decoded = spec.frames_of(latents, due)
        kept = min(decoded - (unseen if due and not latents else 0), frames - written)
        latents, written, waiting = latents + due, written + kept, waiting - due
        denoise, aged = forward(new, memory.latents), memory.append(new)
        chunks.append(
            ChunkFeatures(
                denoise=denoise,
                decode=(tiles, decoded * megapixels * overlapping) if due else (0.0, 0.0),
                mux=(1.0, kept * megapixels) if due else (0.0, 0.0),
                coarse=None if aged is None else forward(aged.latents, aged.context),
            )
        )
    finish = (1.0, frames * megapixels)
    return RunFeatures(text=(float(batch),), chunks=tuple(chunks), finish=finish, picture=picture)


def _tiles(size: Size, spec: LatentSpec) -> tuple[float, float]:
    """How many tiles a frame is decoded in, and how many times its pixels, as some are in several."""
    width, height = size.width // spec.spatial, size.height // spec.spatial
    (columns, across), (rows, down) = spec.tiles(width), spec.tiles(height)
    return float(rows * columns), across * down / (width * height)

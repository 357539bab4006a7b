"""What the engine asks of a model, whatever its family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class LatentSpec:
    """How a model cuts a clip into latents and chunks.

    A latent stands for `temporal` frames, the first one for `first_frames`, and for squares of `spatial`
    pixels a side.
    """

    channels: int
    spatial: int
    temporal: int
    first_frames: int  # 1 for Wan's autoencoder, `temporal` for the bundled one
    first_chunk: int  # latents in the first chunk: 1 in the published AnyFlow-FAR checkpoints
    chunk: int  # latents in each later chunk
    short_last_chunk: bool  # whether the model was trained to end on a chunk shorter than that
    grid: int  # width and height in pixels must be multiples of this

    def chunks(self, frames: int) -> tuple[int, ...]:
        """Latents of each chunk, enough to cover `frames`; what they decode to beyond that is trimmed."""
        left = 1 + max(0, -(-(frames - self.first_frames) // self.temporal))
        sizes: list[int] = []
        while left > 0:
            size = self.chunk if sizes else self.first_chunk
            sizes.append(min(size, left) if self.short_last_chunk else size)
            left -= size
        return tuple(sizes)

    def frames_of(self, first_latent: int, latents: int) -> int:
        """Frames that `latents` latents from number `first_latent` of the clip on decode to."""
        if latents == 0:
            return 0
        return latents * self.temporal - (self.temporal - self.first_frames if first_latent == 0 else 0)


@dataclass(frozen=True, slots=True)
class TextEmbeds:
    """An encoded prompt. `prompt` and `negative`: `(1, L, D)`, zero beyond the text's end."""

    prompt: Tensor
    negative: Tensor | None
    unknown_words: tuple[str, ...]  # words of the prompt the model's vocabulary lacks


class Clip(ABC):
    """One job's state on a model: what it remembers of finished chunks, and where its decoder stands."""

    @abstractmethod
    def denoise(self, latents: Tensor, t: float, r: float) -> Tensor:
        """Mean velocity from time `t` to `r` (1 = noise, 0 = clean) of the chunk after those appended.

        `latents`: `(1, C, T, h, w)` float32; the same shape and type out. Changes no state.
        """

    @abstractmethod
    def append(self, latents: Tensor) -> None:
        """Takes a finished chunk `(1, C, T, h, w)` into the frame cache; `denoise` is then about the next."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """The clip's next latents `(1, C, T', h, w)` to frames `(T, H, W, 3)`, uint8, on the CPU."""


class Family(ABC):
    """A loaded model."""

    spec: LatentSpec
    device: torch.device
    dtype: torch.dtype
    model_hash: str
    shift: float  # the noise schedule's shift the model was trained for

    @abstractmethod
    def encode_text(self, prompt: str, negative_prompt: str | None) -> TextEmbeds:
        """Encodes the prompt, and the negative one unless it is None.

        Raises `UserError` naming the option if a text is longer than the model reads.
        """

    @abstractmethod
    def open_clip(self, width: int, height: int, text: TextEmbeds, guidance_scale: float) -> Clip:
        """Starts a clip of `width` x `height` pixels. `guidance_scale` > 1 needs `text.negative`."""

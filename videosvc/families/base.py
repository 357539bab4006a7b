"""What the engine asks of a model, whatever its family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from videosvc.families.latent_spec import LatentSpec


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

    @abstractmethod
    def preview(self, latents: Tensor) -> Tensor:
        """One frame `(H, W, 3)`, uint8, on the CPU, of what `decode` would give now. Changes no state."""


class Family(ABC):
    """A loaded model."""

    spec: LatentSpec
    device: torch.device
    dtype: torch.dtype
    model_hash: str
    weights: str  # the lever it was loaded with
    shift: float  # the noise schedule's shift the model was trained for

    @abstractmethod
    def encode_text(self, prompt: str, negative_prompt: str | None) -> TextEmbeds:
        """Encodes the prompt, and the negative one unless it is None.

        Raises `UserError` naming the option if a text is longer than the model reads.
        """

    @abstractmethod
    def open_clip(
        self,
        width: int,
        height: int,
        text: TextEmbeds,
        guidance_scale: float,
        frame_cache: str = "native",
        decode: str = "stream",
    ) -> Clip:
        """Starts a clip of `width` x `height` pixels. `guidance_scale` > 1 needs `text.negative`.

        `frame_cache`, `decode`: the levers; `full` is up to the caller, who decodes all latents in one call.
        Raises ModelError if the family cannot take one.
        """

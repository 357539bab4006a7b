"""What the engine asks of a model, whatever its family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from videosvc.errors import ModelError
from videosvc.families.latent_spec import LatentSpec
from videosvc.families.load_levers import LoadLevers

if TYPE_CHECKING:
    from videosvc.families.step_cache import StepCache


@dataclass(frozen=True, slots=True)
class TextEmbeds:
    """An encoded prompt. `prompt` and `negative`: `(1, L, D)`, zero beyond the text's end."""

    prompt: Tensor
    negative: Tensor | None
    unknown_words: tuple[str, ...]  # words of the prompt the model's vocabulary lacks


class Clip(ABC):
    """One job's state on a model: what it remembers of finished chunks, and where its decoder stands."""

    rows = 1  # that it takes of a batch

    @abstractmethod
    def denoise(self, latents: Tensor, t: float, r: float) -> Tensor:
        """Mean velocity from time `t` to `r` (1 = noise, 0 = clean) of the chunk after those appended.

        `latents`: `(1, C, T, h, w)` float32; the same shape and type out. Changes no state but a step cache's.
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

    def close(self) -> None:  # noqa: B027, most have nothing to give up
        """Gives up what it holds on the model. Called once, however the clip ended; nothing is asked of it after."""


@dataclass(frozen=True, slots=True)
class Jump:
    """What `Clip.denoise` is asked, to be answered for several clips in one forward."""

    clip: Clip
    latents: Tensor  # (1, C, T, h, w) float32
    t: float
    r: float


class Family(ABC):
    """A loaded model."""

    spec: LatentSpec
    device: torch.device
    dtype: torch.dtype
    model_hash: str
    levers: LoadLevers  # that it was loaded with
    transformer: Any  # diffusers' own module, with these levers pulled
    shift: float  # the noise schedule's shift the model was trained for
    knows_jumps = True  # whether `denoise` reads `r`; else every step is an Euler step, also the one that lands

    @abstractmethod
    def encode_text(self, prompt: str, negative_prompt: str | None) -> TextEmbeds:
        """Encodes the prompt, and the negative one unless it is None.

        Raises `UserError` naming the option if a text is longer than the model reads.
        """

    def encode_picture(self, pixels: Tensor) -> Tensor:
        """A first chunk `(1, C, T, h, w)`, float32, that stands still: pixels `(H, W, 3)`, uint8, on the CPU.

        Raises ModelError (input_reference) if the family cannot; `LatentSpec.takes_picture` says so before.
        """
        raise ModelError("input_reference: this model cannot start from a picture", param="input_reference")

    @abstractmethod
    def open_clip(
        self,
        width: int,
        height: int,
        text: TextEmbeds,
        guidance_scale: float,
        frame_cache: str = "native",
        decode: str = "stream",
        step_cache: StepCache | None = None,
    ) -> Clip:
        """Starts a clip of `width` x `height` pixels. `guidance_scale` > 1 needs `text.negative`.

        `frame_cache`, `decode`, `step_cache`: the levers; `full` is up to the caller, who decodes all latents in one
        call.
        Raises ModelError if the family cannot take one, UserError (size) if the size is off the model's grid.
        """

    def denoise_together(self, jumps: Sequence[Jump]) -> list[Tensor]:
        """What each clip's `denoise` says of its jump, to within roundings; latents are all of one shape.

        The clips are this model's, no two the same, and may be at different chunks. Here it is one after the other.
        """
        return [jump.clip.denoise(jump.latents, jump.t, jump.r) for jump in jumps]

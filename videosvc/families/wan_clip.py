"""One clip on a bidirectional Wan transformer: all of it at once, through the model's own forward."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from videosvc.families.base import Clip, TextEmbeds
from videosvc.families.clip_decoder import ClipDecoder
from videosvc.families.step_cache import CachedTransformer

TIME_SCALE = 1000.0  # the model reads times in [0, 1000]


class WanClip(Clip):
    """Under guidance (`guidance_scale` > 1) a step is two forwards, one a prompt, as diffusers' pipeline has it.

    Batches of two would save next to nothing at the thousands of tokens that a clip has, take twice the memory, and
    leave step caches with one decision for both prompts.
    """

    def __init__(
        self,
        transformer: Any,
        cached: CachedTransformer | None,
        decoder: ClipDecoder,
        text: TextEmbeds,
        guidance_scale: float,
        dtype: torch.dtype,
    ) -> None:
        """`cached`: the transformer under a step cache; `dtype`: the transformer's."""
        if guidance_scale > 1.0 and text.negative is None:
            raise ValueError("guidance_scale: above 1 it needs a negative prompt, which may be empty")
        self._transformer = transformer
        self._cached = cached
        self._decoder = decoder
        self._guidance_scale = guidance_scale
        self._prompt = text.prompt.to(dtype)
        self._negative = text.negative.to(dtype) if text.negative is not None and guidance_scale > 1.0 else None

    def denoise(self, latents: Tensor, t: float, r: float) -> Tensor:
        """The velocity at `t`. The model knows none of a jump: to `r`, that is a straight line (an Euler step)."""
        velocity = self._velocity("cond", self._prompt, latents, t)
        if self._negative is None:
            return velocity
        negative = self._velocity("uncond", self._negative, latents, t)
        return negative + self._guidance_scale * (velocity - negative)

    def append(self, latents: Tensor) -> None:
        raise ValueError("append: the clip is one chunk, and nothing comes after it")

    def decode(self, latents: Tensor) -> Tensor:
        return self._decoder.decode(latents)

    def preview(self, latents: Tensor) -> Tensor:
        return self._decoder.preview(latents)

    def close(self) -> None:
        if self._cached is not None:
            self._cached.close()

    def _velocity(self, branch: str, prompt: Tensor, latents: Tensor, t: float) -> Tensor:
        time = torch.full((1,), t * TIME_SCALE, dtype=torch.float32, device=latents.device)
        with self._model(branch, t) as model:
            (velocity,) = model(latents.to(prompt.dtype), time, prompt, return_dict=False)
        answer: Tensor = velocity.to(latents.dtype)
        return answer

    def _model(self, branch: str, t: float) -> AbstractContextManager[Any]:
        return nullcontext(self._transformer) if self._cached is None else self._cached.call(branch, t)

"""The forward of diffusers' `AnyFlowFARTransformer3DModel`, over its own submodules, one chunk at a time.

Stock folders load unchanged; what differs is where work is done: keys are rotated before they are remembered,
text is projected once a clip, and the time embedding is one row a forward instead of one a token. (FAR, arXiv
2503.19325; AnyFlow, arXiv 2605.13724.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from videosvc.families.far_attention import (
    CachedSelfAttention,
    KeyValue,
    Memory,
    TextAttention,
    text_key_value,
)
from videosvc_kernels import Rotation

TIME_SCALE = 1000.0  # the model reads times in [0, 1000]


class FarForward:
    """One transformer made ready for cached chunks: its own attention modules get our processors."""

    def __init__(self, model: Any) -> None:
        """`model`: an `AnyFlowFARTransformer3DModel`, whose parts diffusers leaves untyped."""
        self.model = model
        for block in model.blocks:
            block.attn1.set_processor(CachedSelfAttention())
            block.attn2.set_processor(TextAttention())

    @property
    def layers(self) -> int:
        return len(self.model.blocks)

    @property
    def like(self) -> Tensor:
        """A tensor of the model's type and device, found at once: asking the model itself walks all its modules."""
        weight: Tensor = self.model.proj_out.weight
        return weight

    def project_text(self, embeds: Tensor) -> tuple[KeyValue, ...]:
        """Each layer's cross-attention keys and values of encoded prompts `(B, L, D)`."""
        projected = self.model.condition_embedder.text_embedder(embeds.to(self.like.dtype))
        return tuple(text_key_value(block.attn2, projected) for block in self.model.blocks)

    def rotation(self, first_frame: int, frames: int, height: int, width: int, coarse: bool = False) -> Rotation:
        """Positions of `frames` latents `height` x `width` from latent frame `first_frame` of the clip on."""
        config = self.model.config
        patch = config.compressed_patch_size if coarse else config.patch_size
        return Rotation.of_frames(
            first_frame,
            frames,
            height // patch[1],
            width // patch[2],
            config.attention_head_dim,
            coarsening=patch[1] // config.patch_size[1],
            device=self.like.device,
        )

    def hidden(
        self,
        latents: Tensor,
        rotation: Rotation,
        time: tuple[Tensor, Tensor],
        text: tuple[KeyValue, ...],
        memory: Callable[[int], Memory],
        coarse: bool = False,
    ) -> Tensor:
        """Runs a chunk `(B, C, T, h, w)` through the blocks: `(B, L, channels)`."""
        model = self.model
        embed = model.far_patch_embedding if coarse else model.patch_embedding
        hidden: Tensor = embed(latents.to(self.like.dtype)).flatten(2).transpose(1, 2)
        for layer, block in enumerate(model.blocks):
            hidden = block(hidden, text[layer], time[1], rotation, None, memory(layer), None)
        return hidden

    def velocity(self, hidden: Tensor, time: tuple[Tensor, Tensor], shape: torch.Size) -> Tensor:
        """The head: blocks' output to a velocity of `shape`, `(B, C, T, h, w)`."""
        model = self.model
        shift, scale = (model.scale_shift_table + time[0]).chunk(2, dim=1)  # (B, 1, channels) each
        hidden = (model.norm_out(hidden.float()) * (1 + scale) + shift).type_as(hidden)
        _, _, frames, height, width = shape
        velocity: Tensor = model._unpack_latent_sequence(
            model.proj_out(hidden), frames, height, width, model.config.patch_size[1]
        )
        return velocity.transpose(1, 2)

    def time(self, *jumps: tuple[float, float]) -> tuple[Tensor, Tensor]:
        """Embeds a jump `t` to `r` for each row, or one for all: `(B, 1, channels)` for the head, `(B, 1, 6, channels)`
        for the blocks."""
        embedder = self.model.condition_embedder
        by_end = embedder.deltatime_type == "r"
        # Scaled as Python floats: the fastest sine turns a float32 rounding of t into an error of 6e-5.
        scaled = [[[t * TIME_SCALE] for t, _ in jumps], [[(r if by_end else t - r) * TIME_SCALE] for t, r in jumps]]
        start, jump = torch.tensor(scaled, device=self.like.device)
        embedding, modulation = embedder.forward_timestep(start, jump, self.like, 1)
        return embedding, modulation.unflatten(2, (6, -1))

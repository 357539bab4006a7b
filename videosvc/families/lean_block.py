"""A block of the causal AnyFlow transformer on a CPU, in few and cheap operations.

A small model's step is a thousand operations of microseconds each, and only half of its time is products. Of the
bundled model's at 64x64 (two cores, AVX2) this takes 0.8 of the plain block's time: query, key and value are one
product, the first two are normalised and rotated together, and GELU goes by a sigmoid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.transformers.transformer_anyflow_far import AnyFlowTransformerBlock
from torch import Tensor, nn

from videosvc.families.far_attention import KeyValue, Memory, attend, heads, joined
from videosvc_kernels import Rotation, gelu_tanh, rotate


def lighten_blocks(transformer: Any) -> int:
    """Puts a lean one in place of each block that can be: of this transformer, with a norm before its text.

    Returns how many there were.
    """
    lean = 0
    for index, block in enumerate(transformer.blocks):
        if isinstance(block, AnyFlowTransformerBlock) and isinstance(block.norm2, nn.LayerNorm):
            transformer.blocks[index] = LeanBlock(block)
            lean += 1
    return lean


@contextmanager
def layer_by_layer(transformer: Any) -> Iterator[None]:
    """Meanwhile nothing is merged: hooks on layers see all that are used."""
    merged = {block: block.merged for block in transformer.blocks if isinstance(block, LeanBlock)}
    try:
        for block in merged:
            block.merged = None
        yield
    finally:
        for block, weights in merged.items():
            block.merged = weights


class LeanBlock(nn.Module):
    """Its parts, and their names, are the block's own. For inference, where it was made: weights of one product are
    merged for good, and moving it would leave them behind."""

    attn1: Any
    attn2: Any
    ffn: Any
    norm1: Any
    norm2: Any
    norm3: Any
    scale_shift_table: Tensor

    def __init__(self, block: Any) -> None:
        super().__init__()
        for name, part in block.named_children():
            self.add_module(name, part)
        self.scale_shift_table = block.scale_shift_table
        own = self.attn1
        layers = own.to_q, own.to_k, own.to_v
        self.merged = _merge(layers) if all(type(layer) is nn.Linear for layer in layers) else None
        # For queries and keys together, (2, C).
        self._gain = torch.stack((own.norm_q.weight, own.norm_k.weight)).detach().float()

    def forward(
        self,
        hidden: Tensor,
        text: KeyValue,
        time: Tensor,
        rotation: Rotation,
        attention_mask: None,
        memory: Memory,
        kv_cache_flag: None,
    ) -> Tensor:
        """`hidden`: `(B, L, C)`; `time`: `(B, 1, 6, C)`. Called as the block is."""
        modulation = self.scale_shift_table + time.float()
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = modulation.unbind(2)  # (B, 1, C) each
        own, cross = self.attn1, self.attn2
        up, _, down = self.ffn.net

        projected = self._projections(_modulated(hidden, self.norm1.eps, scale, shift))
        pair = _normalised(projected[:, :, :2], self._gain, own.norm_q.eps).to(hidden.dtype)
        pair = rotate(pair.view(*hidden.shape[:2], 2 * own.heads, -1).transpose(1, 2), rotation)
        query, key = pair.chunk(2, dim=1)
        attended = attend(query, key, heads(own, projected[:, :, 2]), memory)
        hidden = _onto(hidden, own.to_out[0](joined(attended)), gate)

        query = cross.to_q(self.norm2(hidden.float()).type_as(hidden))
        query = _normalised(query, cross.norm_q.weight, cross.norm_q.eps).to(hidden.dtype)
        attended = F.scaled_dot_product_attention(heads(cross, query), *text)
        hidden = hidden + cross.to_out[0](joined(attended))

        wide = up.proj(_modulated(hidden, self.norm3.eps, ffn_scale, ffn_shift))
        return _onto(hidden, down(gelu_tanh(wide)), ffn_gate)

    def _projections(self, x: Tensor) -> Tensor:
        """Query, key and value of `(B, L, C)`: `(B, L, 3, C)`."""
        if self.merged is None:
            own = self.attn1
            return torch.stack((own.to_q(x), own.to_k(x), own.to_v(x)), dim=2)
        weight, bias = self.merged
        projected = F.linear(x, weight, bias)
        return projected.view(*x.shape[:2], 3, -1)


def _merge(layers: Sequence[nn.Linear]) -> tuple[Tensor, Tensor]:
    """Weight and bias of one product for all, of which the layers keep theirs as parts: nothing is there twice."""
    weight, bias = (torch.cat([getattr(layer, name) for layer in layers]).detach() for name in ("weight", "bias"))
    for layer, *parts in zip(layers, weight.chunk(len(layers)), bias.chunk(len(layers)), strict=True):
        layer.weight, layer.bias = (nn.Parameter(part, requires_grad=False) for part in parts)
    return weight, bias


def _modulated(x: Tensor, epsilon: float, scale: Tensor, shift: Tensor) -> Tensor:
    """The norm of `(B, L, C)`, scaled and shifted; `scale` and `shift`: `(B, 1, C)` float32."""
    return torch.addcmul(shift, F.layer_norm(x.float(), x.shape[-1:], eps=epsilon), 1 + scale).type_as(x)


def _normalised(x: Tensor, gain: Tensor, epsilon: float) -> Tensor:
    """RMS norm over the last dimension, times `gain`; in float32."""
    wide = x.float()
    mean_square = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square().div_(x.shape[-1])
    normalised: Tensor = wide * mean_square.add_(epsilon).rsqrt_() * gain
    return normalised


def _onto(hidden: Tensor, x: Tensor, gate: Tensor) -> Tensor:
    """`hidden` plus `x` times `gate`."""
    return torch.addcmul(hidden.float(), x.float(), gate).type_as(hidden)

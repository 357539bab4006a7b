"""A block of the causal AnyFlow transformer on a GPU, of int8 products and what Triton puts into them.

What comes before a product (norm and modulation, or the activation) is one pass that ends in int8 rows, and what comes
after it (scales, bias, gate, residual) is done before the product is written. A layer that is not in int8, since the
model would not stand it, is computed as before, between the others.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.transformers.transformer_anyflow_far import AnyFlowTransformerBlock
from torch import Tensor, nn

from videosvc.families.far_attention import KeyValue, Memory, attend, heads, joined
from videosvc_kernels import Int8Linear, Rotation
from videosvc_kernels.fused_quantize import quantize_activated, quantize_modulated
from videosvc_kernels.int8_gemm import int8_gemm
from videosvc_kernels.norm_rotate import norm_rotate


def fuse_blocks(transformer: Any) -> int:
    """Puts a fused one in place of each block that can be: of this transformer, with a norm before its text.

    Returns how many there were.
    """
    fused = 0
    for index, block in enumerate(transformer.blocks):
        if isinstance(block, AnyFlowTransformerBlock) and isinstance(block.norm2, nn.LayerNorm):
            transformer.blocks[index] = FusedBlock(block)
            fused += 1
    return fused


class FusedBlock(nn.Module):
    """Its parts, and their names, are the block's own."""

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

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # next to nothing is left between the kernels
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
        modulation = (self.scale_shift_table + time.float()).squeeze(1)
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = modulation.unbind(1)  # (B, C) each
        own, cross, ffn = self.attn1, self.attn2, self.ffn.net

        projections = own.to_q, own.to_k, own.to_v
        query, key, value = _into(projections, hidden, 1 + scale, shift, self.norm1.eps)
        query = norm_rotate(query, own.norm_q.weight, own.norm_q.eps, own.heads, rotation)
        key = norm_rotate(key, own.norm_k.weight, own.norm_k.eps, own.heads, rotation)
        attended = attend(query, key, heads(own, value), memory)
        hidden = _onto(hidden, own.to_out[0], joined(attended), gate)

        (query,) = _into((cross.to_q,), hidden, self.norm2.weight, self.norm2.bias, self.norm2.eps)
        query = norm_rotate(query, cross.norm_q.weight, cross.norm_q.eps, cross.heads, None)
        hidden = _onto(hidden, cross.to_out[0], joined(F.scaled_dot_product_attention(query, *text)))

        (wide,) = _into((ffn[0].proj,), hidden, 1 + ffn_scale, ffn_shift, self.norm3.eps)
        return _onto(hidden, ffn[2], wide, ffn_gate, gelu=True)


def _into(layers: tuple[nn.Module, ...], x: Tensor, gain: Tensor, shift: Tensor, epsilon: float) -> list[Tensor]:
    """What each layer makes of the norm of `x` times `gain` plus `shift`, which are `(B, C)` or `(C,)`."""
    rows = quantize_modulated(x, gain, shift, epsilon)
    outputs: list[Tensor] = []
    for layer in layers:
        if isinstance(layer, Int8Linear):
            outputs.append(int8_gemm(rows, layer.weight, layer.bias, x.dtype))
        else:
            normalised = F.layer_norm(x.float(), x.shape[-1:], eps=epsilon)
            outputs.append(layer((normalised * gain.unsqueeze(-2) + shift.unsqueeze(-2)).type_as(x)))
    return outputs


def _onto(hidden: Tensor, layer: nn.Module, x: Tensor, gate: Tensor | None = None, gelu: bool = False) -> Tensor:
    """`hidden` plus what `layer` makes of `x`, or of its GELU; times `gate`, `(B, C)`, if there is one."""
    if isinstance(layer, Int8Linear):
        return int8_gemm(quantize_activated(x, gelu), layer.weight, layer.bias, hidden.dtype, hidden, gate)
    y: Tensor = layer(F.gelu(x, approximate="tanh") if gelu else x)
    return (hidden.float() + (y if gate is None else y * gate[:, None])).type_as(hidden)

"""What `bench.kernels` times: every kernel, and the same work in torch, on the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from videosvc_kernels import Int8Codec, Rotation
from videosvc_kernels.coded_attention import coded_attention
from videosvc_kernels.fused_quantize import (
    quantize_activated,
    quantize_activated_reference,
    quantize_modulated,
    quantize_modulated_reference,
)
from videosvc_kernels.int8_gemm import int8_gemm
from videosvc_kernels.int8_linear import padded_int8_product
from videosvc_kernels.norm_rotate import norm_rotate, norm_rotate_reference
from videosvc_kernels.quantize import Int8Rows, quantize_rows

EPSILON = 1e-6
Way = Callable[[], tuple[Tensor, ...]]


@dataclass(frozen=True, slots=True)
class Shapes:
    """Those of a transformer and a clip."""

    frames: int
    height: int  # tokens, as is width
    width: int
    channels: int
    hidden: int  # of the feed-forward
    heads: int
    chunk_frames: int  # whose tokens look back on all others, in a causal model

    @property
    def tokens(self) -> int:
        return self.frames * self.height * self.width


WAN_1_3B = Shapes(frames=21, height=30, width=52, channels=1536, hidden=8960, heads=12, chunk_frames=3)  # 81 at 480p


def ways(shapes: Shapes, device: torch.device, dtype: torch.dtype) -> Mapping[str, Mapping[str, Way]]:
    """By what is computed: "kernel" and "torch", and "bfloat16" for what a product in int8 is to replace."""
    generator = torch.Generator(device).manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device, dtype=dtype)

    tokens, channels, hidden = shapes.tokens, shapes.channels, shapes.hidden
    x, wide = random(1, tokens, channels), random(1, tokens, hidden)
    gain, shift, gate = 1 + 0.1 * random(3, 1, channels).float()
    weight = random(channels)
    rotation = Rotation.of_frames(
        0, shapes.frames, shapes.height, shapes.width, channels // shapes.heads, device=device
    )
    return {
        f"norm, modulate, quantise {tokens}x{channels}": {
            "kernel": lambda: _parts(quantize_modulated(x, gain, shift, EPSILON)),
            "torch": lambda: _parts(quantize_modulated_reference(x, gain, shift, EPSILON)),
        },
        f"GELU, quantise {tokens}x{hidden}": {
            "kernel": lambda: _parts(quantize_activated(wide, gelu=True)),
            "torch": lambda: _parts(quantize_activated_reference(wide, gelu=True)),
        },
        f"RMS norm, rotate {tokens}x{channels}": {
            "kernel": lambda: (norm_rotate(x, weight, EPSILON, shapes.heads, rotation),),
            "torch": lambda: (norm_rotate_reference(x, weight, EPSILON, shapes.heads, rotation).to(dtype),),
        },
        f"product {tokens}x{channels}x{channels}, residual": product(x, random(channels, channels), gate, x),
        f"product {tokens}x{channels}x{hidden}": product(x, random(hidden, channels), None, None),
        f"product {tokens}x{hidden}x{channels}, residual": product(wide, random(channels, hidden), gate, x),
        f"attention over an int8 cache, {tokens} keys": attention(shapes, random),
    }


def product(x: Tensor, weight: Tensor, gate: Tensor | None, residual: Tensor | None) -> Mapping[str, Way]:
    """`x`: `(1, L, K)`, `weight`: `(N, K)`, `gate`: `(1, N)`, `residual`: `(1, L, N)`."""
    rows, channels, bias = quantize_rows(x), quantize_rows(weight), weight[:, 0].float()

    def finished(y: Tensor) -> tuple[Tensor, ...]:
        y = y if gate is None else y * gate[:, None]
        return ((y if residual is None else residual.float() + y).to(x.dtype),)

    def in_torch() -> tuple[Tensor, ...]:
        y = padded_int8_product(rows.codes[0], channels.codes).float() * rows.scale[0, :, None]
        return finished(torch.addcmul(bias, y, channels.scale)[None])

    return {
        "kernel": lambda: (int8_gemm(rows, channels, bias, x.dtype, residual, gate),),
        "torch": in_torch,
        "bfloat16": lambda: finished(F.linear(x, weight, bias.to(x.dtype))),
    }


def attention(shapes: Shapes, random: Callable[..., Tensor]) -> Mapping[str, Way]:
    """Of a chunk of frames over the whole clip; torch's decodes all of it first."""
    codec, heads = Int8Codec(), (1, shapes.heads, -1, shapes.channels // shapes.heads)
    query = random(shapes.chunk_frames * shapes.height * shapes.width * shapes.channels).view(heads)
    keys, values = (codec.encode(random(shapes.tokens * shapes.channels).view(heads)) for _ in range(2))

    def in_torch() -> tuple[Tensor, ...]:
        key, value = (codec.decode(parts, query.dtype) for parts in (keys, values))
        return (F.scaled_dot_product_attention(query, key, value),)

    return {"kernel": lambda: (coded_attention(query, keys, values, codec).output,), "torch": in_torch}


def _parts(rows: Int8Rows) -> tuple[Tensor, ...]:
    return rows.codes, rows.scale

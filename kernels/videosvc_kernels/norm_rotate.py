"""Queries or keys: RMS norm over all heads and rotary embedding, in one pass over memory and into the heads' layout.

A Triton kernel with its reference. Tested through Triton's interpreter on the CPU; it has not run on a GPU yet.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

from __future__ import annotations

import torch
import torch.nn.functional as F
import triton  # type: ignore[import-not-found,unused-ignore]
import triton.language as tl  # type: ignore[import-not-found,unused-ignore]
from torch import Tensor

from videosvc_kernels.rope import Rotation, rotate

WARPS = 4


# A program has one token, all heads of it in registers, as pairs of neighbouring numbers.
@triton.jit
def _norm_rotate(
    x, weight, cos, sin, output, tokens, angle_stride, epsilon,
    heads: tl.constexpr, half: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    batch, token = row // tokens, row % tokens
    pair = tl.arange(0, block)
    mask = pair < heads * half
    both = tl.arange(0, 2)[None, :]
    numbers = tl.load(x + row * 2 * heads * half + 2 * pair[:, None] + both, mask=mask[:, None], other=0.0)
    numbers = numbers.to(tl.float32)
    square = tl.sum(tl.sum(numbers * numbers, 1), 0) / (2 * heads * half)
    numbers *= tl.rsqrt(square + epsilon)
    numbers *= tl.load(weight + 2 * pair[:, None] + both, mask=mask[:, None], other=0.0).to(tl.float32)
    if cos is not None:
        even, odd = tl.split(numbers)
        angle = batch * angle_stride + token * half + pair % half
        c, s = tl.load(cos + angle, mask=mask, other=0.0), tl.load(sin + angle, mask=mask, other=0.0)
        numbers = tl.join(even * c - odd * s, even * s + odd * c)
    place = ((batch * heads + pair // half) * tokens + token) * 2 * half + 2 * (pair % half)
    tl.store(output + place[:, None] + both, numbers.to(output.dtype.element_ty), mask=mask[:, None])


def norm_rotate(x: Tensor, weight: Tensor, epsilon: float, heads: int, rotation: Rotation | None) -> Tensor:
    """`(B, L, H*D)`, as a projection gives it, to `(B, H, L, D)` of the same type, D even.

    `weight`: `(H*D,)`, of the norm. `rotation`: None leaves the heads as they are, as a text's queries are.
    """
    batch, tokens, length = x.shape
    output = torch.empty((batch, heads, tokens, length // heads), dtype=x.dtype, device=x.device)
    half = length // heads // 2
    cos, sin = (None, None) if rotation is None else (rotation.cos.contiguous(), rotation.sin.contiguous())
    with torch.cuda.device_of(x):
        _norm_rotate[(batch * tokens,)](
            x.contiguous(), weight.contiguous(), cos, sin, output,
            tokens, tokens * half if cos is not None and cos.ndim == 4 else 0, epsilon,
            heads=heads, half=half, block=triton.next_power_of_2(heads * half), num_warps=WARPS,
        )  # fmt: skip
    return output


def norm_rotate_reference(x: Tensor, weight: Tensor, epsilon: float, heads: int, rotation: Rotation | None) -> Tensor:
    """The same in torch, and in float32."""
    normalised = F.rms_norm(x.float(), x.shape[-1:], weight.float(), epsilon)
    split = normalised.unflatten(-1, (heads, -1)).transpose(1, 2)
    return split if rotation is None else rotate(split, rotation)

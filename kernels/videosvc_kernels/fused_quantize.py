"""Int8 rows for a product, in one pass over memory with what comes before it: norm and modulation, or an activation.

Triton kernels, each with its reference. Tested through Triton's interpreter on the CPU; they have not run on a GPU yet.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

from __future__ import annotations

import torch
import torch.nn.functional as F
import triton  # type: ignore[import-not-found,unused-ignore]
import triton.language as tl  # type: ignore[import-not-found,unused-ignore]
from torch import Tensor

from videosvc_kernels.quantize import LARGEST, TINY, Int8Rows, quantize_rows

WARPS = 8
GREATEST, SMALLEST_SCALE = tl.constexpr(float(LARGEST)), tl.constexpr(TINY)
# Added and taken away again it rounds a float32 to a whole number, ties to even, as torch.round does.
ROUND = tl.constexpr(1.5 * 2**23)
GELU_SLOPE, GELU_CUBE = tl.constexpr(2 * (2 / torch.pi) ** 0.5), tl.constexpr(0.044715)


# A program has one row, all of it in registers.
@triton.jit
def _modulate(x, gain, shift, codes, scales, length, tokens, modulation_stride, epsilon, block: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, block)
    mask = columns < length
    numbers = tl.load(x + row * length + columns, mask=mask, other=0.0).to(tl.float32)
    centred = tl.where(mask, numbers - tl.sum(numbers, 0) / length, 0.0)
    normalised = centred * tl.rsqrt(tl.sum(centred * centred, 0) / length + epsilon)
    here = row // tokens * modulation_stride + columns
    gains = tl.load(gain + here, mask=mask, other=0.0).to(tl.float32)
    shifts = tl.load(shift + here, mask=mask, other=0.0).to(tl.float32)
    _store_row(normalised * gains + shifts, row, columns, mask, codes, scales, length)


@triton.jit
def _activate(x, codes, scales, length, gelu: tl.constexpr, block: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, block)
    mask = columns < length
    numbers = tl.load(x + row * length + columns, mask=mask, other=0.0).to(tl.float32)
    if gelu:  # half of 1 + tanh(u) is the sigmoid of 2u
        numbers *= tl.sigmoid(numbers * GELU_SLOPE * (numbers * numbers * GELU_CUBE + 1.0))
    _store_row(numbers, row, columns, mask, codes, scales, length)


@triton.jit
def _store_row(numbers, row, columns, mask, codes, scales, length):
    """`quantize_rows` of a row whose numbers outside the mask are zeros, or any in one that is not finite."""
    scale = tl.maximum(tl.max(tl.abs(numbers), 0) / GREATEST, SMALLEST_SCALE)
    scale += tl.sum(numbers - numbers, 0)  # 0, or NaN where one of them is infinite or NaN
    whole = (numbers / scale + ROUND) - ROUND
    whole = tl.where(whole == whole, whole, 0.0)  # NaN as a whole number is whatever the device makes of it
    tl.store(codes + row * length + columns, whole.to(tl.int8), mask=mask)
    tl.store(scales + row, scale)


def quantize_modulated(x: Tensor, gain: Tensor, shift: Tensor, epsilon: float) -> Int8Rows:
    """Int8 rows of the layer norm of `x`, `(B, L, C)`, times `gain` plus `shift`: `(B, C)` each, or `(C,)` for all.

    An adaptive norm's gain is 1 + scale, an affine one's its weight. Everything is float32 before it is rounded.
    """
    x = x.contiguous()
    _, tokens, length = x.shape
    codes, scales = _rows_like(x)
    with torch.cuda.device_of(x):
        _modulate[(scales.numel(),)](
            x, gain.contiguous(), shift.contiguous(), codes, scales, length, tokens, length if gain.ndim == 2 else 0,
            epsilon, block=triton.next_power_of_2(length), num_warps=WARPS,
        )  # fmt: skip
    return Int8Rows(codes, scales)


def quantize_activated(x: Tensor, gelu: bool = False) -> Int8Rows:
    """Int8 rows of `x`, `(..., C)`, or of its GELU, the one by tanh."""
    x = x.contiguous()
    codes, scales = _rows_like(x)
    block = triton.next_power_of_2(x.shape[-1])
    with torch.cuda.device_of(x):
        _activate[(scales.numel(),)](x, codes, scales, x.shape[-1], gelu=gelu, block=block, num_warps=WARPS)
    return Int8Rows(codes, scales)


def _rows_like(x: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x, dtype=torch.int8), torch.empty(x.shape[:-1], dtype=torch.float32, device=x.device)


def quantize_modulated_reference(x: Tensor, gain: Tensor, shift: Tensor, epsilon: float) -> Int8Rows:
    """The same in torch."""
    normalised = F.layer_norm(x.float(), x.shape[-1:], eps=epsilon)
    return quantize_rows(normalised * gain.unsqueeze(-2) + shift.unsqueeze(-2))


def quantize_activated_reference(x: Tensor, gelu: bool = False) -> Int8Rows:
    """The same in torch."""
    return quantize_rows(F.gelu(x.float(), approximate="tanh") if gelu else x)

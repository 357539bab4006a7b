"""A linear layer whose weights are fp8 (e4m3), one scale an output channel.

On GPUs of compute capability 8.9 and later the product itself runs in fp8, by `torch._scaled_mm` with a scale a row.
That path has been tested on the CPU's emulation of it, not yet on such a GPU. Everywhere else fp8 is how weights are
stored: it halves bfloat16's memory and saves no time.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from videosvc_kernels.low_bit_linear import LowBitLinear
from videosvc_kernels.quantize import TINY

FP8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FP8).max  # 448
CAPABILITY = (8, 9)
MULTIPLE = 16  # what both sides of the weights must be for an fp8 product


def quantize_fp8(x: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and scales, `(..., K)` e4m3 and `(...)` float32; rows that are not finite get the scale NaN."""
    x = x.float()
    largest = x.abs().amax(dim=-1)
    scale = (largest / LARGEST).clamp_min(TINY) + (largest - largest)
    return (x / scale[..., None]).to(FP8), scale


def fp8_refusal(device: torch.device) -> str | None:
    """Why `device` cannot even store weights in fp8, in one line; None if it can. It is tried, not looked up."""
    try:
        codes, scale = quantize_fp8(torch.tensor([[1.0, -2.0]], device=device))
        stored = (codes.float() * scale[:, None]).tolist()
    except (RuntimeError, NotImplementedError, AssertionError, TypeError) as error:  # each backend has its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return f"{device} stores no fp8 ({reason})"
    return None if stored == [[1.0, -2.0]] else f"{device} gives back other numbers than were stored in fp8"


def fp8_product_refusal(device: torch.device) -> str | None:
    """Why products on `device` are not made in fp8, in one line; None if they are."""
    if device.type != "cuda":
        return f"{device} has no fp8 products, weights are only stored in it"
    capability = torch.cuda.get_device_capability(device)
    if capability < CAPABILITY:
        own, needed = (".".join(map(str, version)) for version in (capability, CAPABILITY))
        return f"{device} has compute capability {own}, fp8 products need {needed}: weights are only stored in it"
    return None


class Fp8Linear(LowBitLinear):
    """`nn.Linear` with e4m3 weights. `storage_only` says whether anything is computed in fp8."""

    CODES = FP8

    def __init__(self, codes: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        super().__init__(codes, scale, bias)
        odd = self.in_features % MULTIPLE or self.out_features % MULTIPLE
        self.storage_only = bool(odd) or fp8_product_refusal(codes.device) is not None

    @staticmethod
    def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
        return quantize_fp8(weight)

    def forward(self, x: Tensor) -> Tensor:
        multiply = stored_fp8_linear if self.storage_only else scaled_fp8_linear
        y = multiply(x.reshape(-1, self.in_features), self.codes, self.scale)
        if self.bias is not None:
            y = y + self.bias
        return y.to(x.dtype).reshape(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, storage_only={self.storage_only}"


def stored_fp8_linear(x: Tensor, codes: Tensor, scale: Tensor) -> Tensor:
    """`(M, K)` by codes `(N, K)` and scales `(N,)` to `(M, N)`: every e4m3 code is exact in any wider type."""
    return F.linear(x, codes.to(x.dtype)) * scale


def scaled_fp8_linear(x: Tensor, codes: Tensor, scale: Tensor) -> Tensor:
    """The same with `x` in e4m3 too, a scale a row, to bfloat16: what row-wise scales give on a GPU."""
    rows, row_scale = quantize_fp8(x)
    return torch._scaled_mm(
        rows, codes.t(), scale_a=row_scale[:, None], scale_b=scale[None, :], out_dtype=torch.bfloat16
    )

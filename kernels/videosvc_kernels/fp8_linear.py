"""A linear layer whose weights are fp8 (e4m3), one scale an output channel.

On GPUs of compute capability 8.9 and later the product itself runs in fp8, by `torch._scaled_mm` with a scale a row.
That path has been tested on the CPU's emulation of it, not yet on such a GPU. Everywhere else fp8 is how weights are
stored: it halves bfloat16's memory and saves no time.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


def fp8_product_refusal(device: torch.device) -> str | None:
    """Why products on `device` are not made in fp8, in one line; None if they are."""
    if device.type != "cuda":
        return f"{device} multiplies no fp8: it only stores weights in it, which saves memory and no time"
    capability = torch.cuda.get_device_capability(device)
    if capability < CAPABILITY:
        own, needed = (".".join(map(str, version)) for version in (capability, CAPABILITY))
        return f"{device} has compute capability {own}, fp8 products need {needed}: weights are only stored in fp8"
    return None


class Fp8Linear(nn.Module):
    """`nn.Linear` with e4m3 weights. `storage_only` says whether anything is computed in fp8."""

    codes: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        """Quantises a layer's weights; its bias is shared."""
        super().__init__()
        self.out_features, self.in_features = linear.weight.shape
        codes, scale = quantize_fp8(linear.weight.detach())
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())
        odd = self.in_features % MULTIPLE or self.out_features % MULTIPLE
        self.storage_only = bool(odd) or fp8_product_refusal(codes.device) is not None

    def forward(self, x: Tensor) -> Tensor:
        """`(..., K)` to `(..., N)`, the same type."""
        multiply = stored_fp8_linear if self.storage_only else scaled_fp8_linear
        y = multiply(x.reshape(-1, self.in_features), self.codes, self.scale)
        if self.bias is not None:
            y = y + self.bias
        return y.to(x.dtype).reshape(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, storage_only={self.storage_only}"


def stored_fp8_linear(x: Tensor, codes: Tensor, scale: Tensor) -> Tensor:
    """`(M, K)` by codes `(N, K)` and scales `(N,)` to `(M, N)`: every e4m3 code is exact in any wider type."""
    return F.linear(x, codes.to(x.dtype)) * scale


def scaled_fp8_linear(x: Tensor, codes: Tensor, scale: Tensor) -> Tensor:
    """The same with `x` in e4m3 too, a scale a row, to bfloat16: what row-wise scales give on a GPU."""
    rows, row_scale = quantize_fp8(x)
    return torch._scaled_mm(
        rows, codes.t(), scale_a=row_scale[:, None], scale_b=scale[None, :], out_dtype=torch.bfloat16
    )

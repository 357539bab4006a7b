"""A linear layer in int8 both ways: weights per output channel, activations per token as they come (W8A8 dynamic).

The product of codes is exact (int32), so all its error is that of the two quantisations. LLM.int8, arXiv 2208.07339,
without its outlier columns: which layers stand this is measured (`sensitivity.py`). On CPUs without instructions for
such products int8 is how weights are stored: it takes a quarter of float32's memory and saves no time.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from videosvc_kernels.low_bit_linear import LowBitLinear
from videosvc_kernels.quantize import LARGEST, Int8Rows, dequantize_rows, quantize_rows
from videosvc_kernels.triton_refusal import failure_of, triton_refusal

MAX_IN_FEATURES = (2**31 - 1) // LARGEST**2  # more could overflow int32
GPU_ROWS, GPU_MULTIPLE = 17, 8  # cuBLASLt takes no fewer rows, and only sides in such multiples
# What oneDNN multiplies int8 with. On a CPU of AVX2 alone a product takes ten times what it does in float32.
INSTRUCTIONS = ("avx512_vnni", "amx_int8", "avx_vnni")


class Int8Linear(LowBitLinear):
    """`nn.Linear` with int8 weights. `storage_only` says whether anything is computed in int8."""

    CODES = torch.int8

    def __init__(self, codes: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        """Raises ValueError if a product of the codes could overflow."""
        super().__init__(codes, scale, bias)
        if self.in_features > MAX_IN_FEATURES:
            raise ValueError(f"in_features: {self.in_features} is more than int32 holds, {MAX_IN_FEATURES}")
        self.fused = triton_refusal(codes.device) is None
        self.storage_only = int8_product_refusal(codes.device) is not None

    @staticmethod
    def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
        rows = quantize_rows(weight)
        return rows.codes, rows.scale

    @property
    def weight(self) -> Int8Rows:
        return Int8Rows(self.codes, self.scale)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.reshape(-1, self.in_features)
        if self.fused:
            from videosvc_kernels.fused_int8_linear import fused_int8_linear

            y: Tensor = fused_int8_linear(tokens, self.codes, self.scale, self.bias)
            return y.reshape(*x.shape[:-1], self.out_features)
        if self.storage_only:
            y = F.linear(tokens, self.codes.to(x.dtype))  # every code is exact in any float type
        else:
            rows = quantize_rows(tokens)
            multiply = int8_product if x.device.type == "cpu" else padded_int8_product
            y = multiply(rows.codes, self.codes).float().mul_(rows.scale[:, None])
        y = y * self.scale if self.bias is None else torch.addcmul(self.bias, y, self.scale)
        return y.to(x.dtype).reshape(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, storage_only={self.storage_only}"


def int8_product(a: Tensor, b: Tensor) -> Tensor:
    """`(M, K)` times the transpose of `(N, K)`, int8, to `(M, N)` int32, exactly; on the CPU of any sizes."""
    if a.shape[1] == 1:  # torch 2.13 with oneDNN 3.12 leaves such a product's memory as it was, and says nothing
        return padded_int8_product(a, b)
    return torch._int_mm(a, b.t())


def padded_int8_product(a: Tensor, b: Tensor) -> Tensor:
    """The same from tensors that are padded with zeros, where need be, to sizes that a GPU's product takes."""
    (m, k), n = a.shape, b.shape[0]
    inner, columns, rows = -k % GPU_MULTIPLE, -n % GPU_MULTIPLE, max(0, GPU_ROWS - m)
    if inner or rows:
        a = F.pad(a, (0, inner, 0, rows))
    if inner or columns:
        b = F.pad(b, (0, inner, 0, columns))
    return torch._int_mm(a, b.t())[:m, :n]


def int8_linear_reference(x: Tensor, weight: Int8Rows, bias: Tensor | None, storage_only: bool = False) -> Tensor:
    """What `Int8Linear` computes, in float64 from the codes on."""
    rows = x.double() if storage_only else dequantize_rows(quantize_rows(x), torch.float64)
    y = rows @ dequantize_rows(weight, torch.float64).T
    return y if bias is None else y + bias.double()


@cache
def int8_refusal(device: torch.device) -> str | None:
    """Why `Int8Linear` cannot run on `device`, in one line; None if it can. It is tried, not looked up."""
    try:
        # Sums of products this large overflow the 16 bits in which processors older than VNNI add pairs of them.
        a = torch.full((GPU_ROWS, 64), LARGEST, dtype=torch.int8, device=device)
        b = torch.full((GPU_MULTIPLE, 64), -LARGEST, dtype=torch.int8, device=device)
        exact = bool((padded_int8_product(a, b) == -64 * LARGEST**2).all())
    except (RuntimeError, NotImplementedError, AssertionError) as error:  # torch without the device's code asserts
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return f"{device} has no int8 matrix product ({reason})"
    if not exact:
        return f"the int8 matrix product of {device} overflows"
    layer = Int8Linear(a, torch.ones(GPU_ROWS, device=device), None)
    failure = failure_of(lambda: layer(torch.ones(GPU_ROWS, 64, device=device)))
    return None if failure is None else f"an int8 layer fails on {device} ({failure})"


def int8_product_refusal(device: torch.device) -> str | None:
    """Why products on `device` are not made in int8, in one line; None if they are."""
    can = torch.cpu.get_capabilities()
    if device.type != "cpu" or can["architecture"] != "x86_64" or any(can.get(name) for name in INSTRUCTIONS):
        return None
    return f"this CPU has none of {', '.join(INSTRUCTIONS)}: weights are only stored in int8"

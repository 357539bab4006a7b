"""A linear layer of int8 codes in two Triton kernels: rows quantised in one pass, a product that ends in its scales.

One operator to a compiler, which need not look inside. Tested through Triton's interpreter on the CPU; it has not run
on a GPU yet.
"""

from __future__ import annotations

import torch
from torch import Tensor

from videosvc_kernels.fused_quantize import quantize_activated
from videosvc_kernels.int8_gemm import int8_gemm
from videosvc_kernels.quantize import Int8Rows


@torch.library.custom_op("videosvc::fused_int8_linear", mutates_args=())
def fused_int8_linear(x: Tensor, codes: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """`(M, K)` by codes `(N, K)` and scales `(N,)` to `(M, N)` of the type of `x`."""
    return int8_gemm(quantize_activated(x[None]), Int8Rows(codes, scale), bias, x.dtype)[0]


@fused_int8_linear.register_fake
def _(x: Tensor, codes: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(x.shape[0], codes.shape[0])

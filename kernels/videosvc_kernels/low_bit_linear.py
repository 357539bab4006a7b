"""What linear layers of few bits have in common: codes, and one scale an output channel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import torch
from torch import Tensor, nn


class LowBitLinear(nn.Module, ABC):
    """`nn.Linear` whose weights are `codes` times `scale`. Any float type in, the same out."""

    CODES: ClassVar[torch.dtype]
    codes: Tensor  # (N, K)
    scale: Tensor  # (N,) float32
    bias: Tensor | None  # (N,) float32

    def __init__(self, codes: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = codes.shape
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if bias is None else bias.detach().float())

    @classmethod
    def of(cls, linear: nn.Linear) -> Self:
        """Quantises a layer's weights; its bias is kept in float32."""
        return cls(*cls.quantize(linear.weight.detach()), linear.bias)

    @staticmethod
    @abstractmethod
    def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
        """Codes and scales of `(N, K)`."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """`(..., K)` to `(..., N)`."""

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"

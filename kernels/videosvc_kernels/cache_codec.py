"""How the frame cache keeps keys and values: as they are, in eight bits a number, or in four."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise, product

import torch
from torch import Tensor

from videosvc_kernels.hadamard import RandomHadamard
from videosvc_kernels.lloyd_max import gaussian_codebook
from videosvc_kernels.quantize import TINY, Int8Rows, dequantize_rows, quantize_rows

Parts = tuple[Tensor, ...]  # what a run of tokens is kept as, each part (B, H, L, ...)


class CacheCodec(ABC):
    """One way to keep `(B, H, L, D)`. A codec may rotate the D axis; inner products do not mind."""

    @abstractmethod
    def encode(self, x: Tensor) -> Parts:
        """Any float type in; contiguous parts out, however `x` lies in memory."""

    @abstractmethod
    def decode(self, parts: Parts, dtype: torch.dtype) -> Tensor:
        """`(B, H, L, D)`, still rotated."""

    def rotate(self, x: Tensor) -> Tensor:
        """Brings `(..., D)` to where decoded keys and values are."""
        return x

    def unrotate(self, x: Tensor) -> Tensor:
        """And back."""
        return x


class NativeCodec(CacheCodec):
    """Keeps everything as it comes."""

    def encode(self, x: Tensor) -> Parts:
        return (x.contiguous(),)

    def decode(self, parts: Parts, dtype: torch.dtype) -> Tensor:
        return parts[0].to(dtype)


class Int8Codec(CacheCodec):
    """Int8 with a float32 scale for each token and head. On Gaussian data at D = 64: 0.6 % error."""

    def encode(self, x: Tensor) -> Parts:
        rows = quantize_rows(x.contiguous())  # else codes would lie as `x` does, and be copied at every read
        return rows.codes, rows.scale

    def decode(self, parts: Parts, dtype: torch.dtype) -> Tensor:
        return dequantize_rows(Int8Rows(*parts), dtype)


class Int4Codec(CacheCodec):
    """Rotated, then four bits into a Gaussian's best codebook, with a bfloat16 scale for each token and head.

    Two numbers a byte, the first in the low bits. 10 % error on any data: rotated, all data is alike. Tokens and heads
    of zeros come back as zeros; those of an infinity or a NaN as NaN. Meant for keys and values: below 1e-18, where
    squares underflow, digits are lost.
    """

    LEVELS = 16

    def __init__(self, head_dim: int, device: torch.device | None = None) -> None:
        self._head_dim = head_dim
        self._rotation = RandomHadamard(head_dim, device)
        values = gaussian_codebook(self.LEVELS)
        self.codebook = torch.tensor(values, device=device)
        self._edges = [(low + high) / 2 for low, high in pairwise(values)]
        # (256, 2): what each byte stands for, so that one lookup gives two numbers.
        self._pairs = torch.tensor([(low, high) for high, low in product(values, values)], device=device)

    def encode(self, x: Tensor) -> Parts:
        rotated = self.rotate(x.contiguous().float())  # so that the codes are contiguous too
        scale = torch.linalg.vector_norm(rotated, dim=-1) * self._head_dim**-0.5
        numbers = rotated / scale.clamp_min(TINY)[..., None]
        codes = torch.zeros_like(numbers, dtype=torch.uint8)
        for edge in self._edges:  # on a CPU half the time of `torch.bucketize`
            codes += numbers > edge
        if self._head_dim % 2:
            codes = torch.nn.functional.pad(codes, (0, 1))
        low, high = codes.unflatten(-1, (-1, 2)).unbind(-1)
        # Infinities times a codebook's finite values would be infinite, not NaN.
        return low | high << 4, (scale + (scale - scale)).to(torch.bfloat16)

    def decode(self, parts: Parts, dtype: torch.dtype) -> Tensor:
        packed, scale = parts
        numbers = self._pairs.index_select(0, packed.flatten().int()).view(*packed.shape[:-1], -1)
        return (numbers[..., : self._head_dim] * scale.float()[..., None]).to(dtype)

    def rotate(self, x: Tensor) -> Tensor:
        return self._rotation.rotate(x)

    def unrotate(self, x: Tensor) -> Tensor:
        return self._rotation.unrotate(x)

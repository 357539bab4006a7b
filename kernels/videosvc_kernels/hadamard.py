"""Random Hadamard rotation: whatever a vector looks like, afterwards its numbers are nearly Gaussian.

An outlier channel, which would set the scale for all the others, is spread evenly. Lengths and inner products stay, so
keys never need rotating back: queries are rotated too. QuaRot, arXiv 2404.00456; TurboQuant, arXiv 2504.19874.
"""

from __future__ import annotations

import torch
from torch import Tensor

SEED = 0x5EED  # no rotated vector outlives its clip, but equal clips should be equal files


class RandomHadamard:
    """A fixed rotation of vectors of `dim` numbers: random signs, then a Walsh-Hadamard transform.

    Where `dim` is no power of two, its binary digits say how it is cut, largest piece first, each transformed alone.
    """

    def __init__(self, dim: int, device: torch.device | None = None) -> None:
        pieces = [1 << bit for bit in reversed(range(dim.bit_length())) if dim >> bit & 1]
        transform = torch.block_diag(*(walsh_hadamard(torch.eye(piece)) for piece in pieces))
        signs = torch.randint(0, 2, (dim, 1), generator=torch.Generator().manual_seed(SEED)) * 2.0 - 1.0
        # Head dimensions are small: one product with the matrix takes a third of the time of `walsh_hadamard` at
        # dim 128, a tenth at 32.
        self._matrix = (signs * transform).to(device)

    def rotate(self, x: Tensor) -> Tensor:
        """`(..., dim)`, computed in float32, the type kept."""
        rotated: Tensor = x.float() @ self._matrix
        return rotated.to(x.dtype)

    def unrotate(self, x: Tensor) -> Tensor:
        """Undoes `rotate`."""
        straight: Tensor = x.float() @ self._matrix.T
        return straight.to(x.dtype)


def walsh_hadamard(x: Tensor) -> Tensor:
    """The orthonormal transform of the last axis, whose length is a power of two, in `log2` passes of sums."""
    length = x.shape[-1]
    half = 1
    while half < length:
        first, second = x.unflatten(-1, (-1, 2, half)).unbind(-2)
        x = torch.stack((first + second, first - second), dim=-2).flatten(-3)
        half *= 2
    return x.mul(length**-0.5)

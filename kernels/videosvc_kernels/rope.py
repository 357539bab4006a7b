"""Rotary position embedding over (time, height, width), in float32.

The usual way multiplies complex128 numbers, which doubles the bytes of every query and key. Angles are still
computed in float64, so a clip of any length keeps its precision; only the rotation itself is float32.
RoFormer, arXiv 2104.09864; the three-axis split is Wan's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Rotation:
    """Cosines and sines of a run of tokens, each `(L, D/2)` float32; `(B, 1, L, D/2)` if each row has its own."""

    cos: Tensor
    sin: Tensor

    @staticmethod
    def of_frames(
        first_frame: int,
        frames: int,
        height: int,
        width: int,
        head_dim: int,
        coarsening: int = 1,
        theta: float = 10000.0,
        device: torch.device | None = None,
    ) -> Rotation:
        """The rotation of `frames * height * width` tokens in (frame, row, column) order.

        `first_frame` counts from the start of the clip. `coarsening` > 1: each token stands for a square of
        that many tokens a side and sits at the square's middle, which is where the normalised mean of their
        rotations points (FAR's coarse context, arXiv 2503.19325).
        """
        side = head_dim // 6  # angles given to height, and as many to width; time takes what is left
        middle = (coarsening - 1) / 2
        axes = (
            (head_dim // 2 - 2 * side, [float(first_frame + i) for i in range(frames)]),
            (side, [coarsening * i + middle for i in range(height)]),
            (side, [coarsening * i + middle for i in range(width)]),
        )
        time, rows, columns = (_angles(count, positions, theta) for count, positions in axes)
        grid = (frames, height, width, -1)
        angles = torch.cat(
            [
                time[:, None, None, :].expand(grid),
                rows[None, :, None, :].expand(grid),
                columns[None, None, :, :].expand(grid),
            ],
            dim=-1,
        ).flatten(0, 2)
        return Rotation(angles.cos().float().to(device), angles.sin().float().to(device))

    @staticmethod
    def of_rows(rotations: Sequence[Rotation]) -> Rotation:
        """One row's each, all of as many tokens, for a batch of them; a single one is left as it is."""
        if len(rotations) == 1:
            return rotations[0]
        cos, sin = (torch.stack(rows)[:, None] for rows in zip(*((r.cos, r.sin) for r in rotations), strict=True))
        return Rotation(cos, sin)


def _angles(count: int, positions: list[float], theta: float) -> Tensor:
    """`(len(positions), count)` float64: positions times frequencies, from 1 down towards 1/theta."""
    exponents = torch.arange(0, 2 * count, 2, dtype=torch.float64) / (2 * count)
    return torch.outer(torch.tensor(positions, dtype=torch.float64), theta**-exponents)


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotates neighbouring pairs of `x`, `(B, H, L, D)`, by its tokens' angles. Any float type, kept."""
    pairs = x.float().unflatten(-1, (-1, 2))
    cos, sin = rotation.cos, rotation.sin
    if torch.compiler.is_compiling():  # into one loop, but not of complex numbers
        even, odd = pairs.unbind(-1)
        turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    else:  # on a CPU a tenth of the time of four products and two sums, each with its own pass
        turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.complex(cos, sin))
    return turned.flatten(-2).to(x.dtype)

"""Frames cut into overlapping tiles, and tiles blended back into frames without a seam."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import Tensor


def spans(length: int, tile: int, overlap: int) -> tuple[slice, ...]:
    """The tiles along one side: as few as may be, none longer than `tile`, neighbours sharing exactly `overlap`.

    Their lengths differ by one at most, so that little is computed twice. Raises ValueError unless
    0 <= overlap < tile.
    """
    if not 0 <= overlap < tile:
        raise ValueError(f"overlap: {overlap} must be at least 0 and less than the tile's {tile}")
    count = 1 if length <= tile else -(-(length - overlap) // (tile - overlap))
    whole = length + (count - 1) * overlap
    ends = [whole * number // count for number in range(count + 1)]
    return tuple(
        slice(start - number * overlap, end - number * overlap) for number, (start, end) in enumerate(pairwise(ends))
    )


def blend(parts: Iterable[Tensor], overlap: int, dim: int) -> Tensor:
    """Joins neighbours along `dim`, each of which begins with the `overlap` last places of the one before.

    Over a seam one fades into the next in a straight line. All weights of a place sum to one: where parts agree,
    theirs is the result, bit for bit.
    """
    done: list[Tensor] = []
    last: Tensor | None = None  # what the next part may still change
    for part in parts:
        if last is None or overlap == 0:
            done += [] if last is None else [last]
            last = part
            continue
        kept = last.shape[dim] - overlap
        ramp = (torch.arange(overlap, device=part.device, dtype=part.dtype) + 0.5) / overlap
        shape = [1] * part.ndim
        shape[dim] = overlap
        seam = torch.lerp(last.narrow(dim, kept, overlap), part.narrow(dim, 0, overlap), ramp.view(shape))
        done.append(last.narrow(dim, 0, kept))
        last = torch.cat([seam, part.narrow(dim, overlap, part.shape[dim] - overlap)], dim)
    assert last is not None, "there is at least one part"
    return torch.cat([*done, last], dim)

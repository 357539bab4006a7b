from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from videosvc_kernels import blend, spans

lengths = st.integers(1, 40)
tiles_and_overlaps = st.integers(1, 12).flatmap(lambda tile: st.tuples(st.just(tile), st.integers(0, tile - 1)))


def tiled(x: Tensor, tile: int, overlap: int, each: torch.nn.Module | None = None) -> Tensor:
    """`x` `(..., h, w)` through `each`, tile by tile."""
    rows, columns = (spans(side, tile, overlap) for side in x.shape[-2:])
    each = each or torch.nn.Identity()
    return blend((blend((each(x[..., r, c]) for c in columns), overlap, -1) for r in rows), overlap, -2)


@given(lengths, tiles_and_overlaps)
def test_tiles_cover_a_side_with_the_overlap_asked_for(length: int, shape: tuple[int, int]) -> None:
    tile, overlap = shape
    parts = spans(length, tile, overlap)
    sizes = [part.stop - part.start for part in parts]
    assert parts[0].start == 0 and parts[-1].stop == length
    assert all(left.stop - right.start == overlap for left, right in pairwise(parts))
    assert max(sizes) <= tile and max(sizes) - min(sizes) <= 1
    # One tile fewer could not reach the end.
    assert len(parts) == 1 or (len(parts) - 1) * (tile - overlap) + overlap < length


@settings(deadline=None)
@given(lengths, tiles_and_overlaps)
def test_the_weights_of_every_place_sum_to_one(length: int, shape: tuple[int, int]) -> None:
    tile, overlap = shape
    parts = spans(length, tile, overlap)
    weights = torch.stack(
        [
            blend((torch.full((p.stop - p.start,), float(p is one), dtype=torch.float64) for p in parts), overlap, 0)
            for one in parts
        ]
    )
    assert weights.shape == (len(parts), length) and (weights >= 0).all()
    torch.testing.assert_close(weights.sum(0), torch.ones(length, dtype=torch.float64))
    for part, weight in zip(parts, weights, strict=True):
        outside = torch.ones(length, dtype=torch.bool)
        outside[part] = False
        assert (weight[outside] == 0).all() and (weight[part] > 0).all()


@settings(deadline=None)
@given(lengths, lengths, tiles_and_overlaps, st.floats(-1e3, 1e3, width=32))
def test_a_constant_is_reproduced_bit_for_bit(height: int, width: int, shape: tuple[int, int], value: float) -> None:
    field = torch.full((2, height, width), value)
    assert torch.equal(tiled(field, *shape), field)


@settings(deadline=None)
@given(lengths, lengths, tiles_and_overlaps)
def test_what_works_on_each_place_alone_needs_no_whole_frame(height: int, width: int, shape: tuple[int, int]) -> None:
    x = torch.randn(1, 3, 2, height, width, generator=torch.Generator().manual_seed(height))
    assert torch.equal(tiled(x, *shape, torch.nn.Tanh()), x.tanh())


def test_one_part_fades_into_the_next_in_a_straight_line() -> None:
    joined = blend([torch.zeros(5), torch.ones(6)], overlap=4, dim=0)
    assert joined.tolist() == [0, 0.125, 0.375, 0.625, 0.875, 1, 1]


@pytest.mark.parametrize("overlap", [-1, 4, 5])
def test_refuses_an_overlap_that_leaves_no_tile(overlap: int) -> None:
    with pytest.raises(ValueError, match=f"overlap: {overlap} must be at least 0 and less than the tile's 4"):
        spans(10, 4, overlap)

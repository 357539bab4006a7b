from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from videosvc_kernels.partial_attention import Partial, merge, partial_attention, partial_attention_reference

Attention = Callable[[Tensor, Tensor, Tensor], Partial]
both = pytest.mark.parametrize("attention", [partial_attention, partial_attention_reference])


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def dense(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = query.double() @ key.double().transpose(-1, -2) * query.shape[-1] ** -0.5
    return scores.softmax(-1) @ value.double()


@both
@given(st.integers(1, 40), st.integers(1, 20), st.lists(st.integers(1, 30), min_size=1, max_size=5), st.integers(0, 99))
def test_merged_pieces_equal_attention_over_all(
    attention: Attention, head_dim: int, queries: int, pieces: list[int], seed: int
) -> None:
    query = random(seed, 2, 3, queries, head_dim)
    key, value = random(seed + 1, 2, 2, 3, sum(pieces), head_dim)
    cut = zip(key.split(pieces, 2), value.split(pieces, 2), strict=True)
    whole = reduce(merge, (attention(query, *piece) for piece in cut))
    torch.testing.assert_close(whole.output.double(), dense(query, key, value), atol=5e-6, rtol=0)


@both
def test_pieces_may_weigh_anything(attention: Attention) -> None:
    """Scores far apart: what one piece's exponentials come to says nothing beside the other's."""
    query = random(0, 1, 1, 4, 16)
    key, value = random(1, 2, 1, 1, 20, 16)
    key[:, :, 10:] *= 300
    parts = [attention(query, key[:, :, i : i + 10], value[:, :, i : i + 10]) for i in (0, 10)]
    for order in (parts, parts[::-1]):
        merged = merge(*order)
        assert merged.output.isfinite().all()
        torch.testing.assert_close(merged.output.double(), dense(query, key, value), atol=1e-4, rtol=0)


@both
def test_low_precision_in_and_out_weights_in_float32(attention: Attention) -> None:
    query, key, value = random(2, 3, 1, 2, 5, 32).bfloat16()
    part = attention(query, key, value)
    assert (part.output.dtype, part.weight.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(part.output.double(), dense(query, key, value), atol=2e-2, rtol=0)
    assert merge(part, part).output.dtype == torch.float32

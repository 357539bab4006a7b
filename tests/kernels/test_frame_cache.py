from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from videosvc_kernels import FrameCache


def chunk(length: int, value: float) -> Tensor:
    """(B=2, H=3, L, D=4), all of one value, so that it can be told where it went."""
    return torch.full((2, 3, length, 4), float(value))


def held(cache: FrameCache, layer: int = 0, chunks: int | None = None) -> tuple[list[float], list[float]]:
    context = cache.context(layer, chunks)
    if context is None:
        return [], []
    key, value = context
    return key[0, 0, :, 0].tolist(), value[0, 0, :, 0].tolist()


@given(st.lists(st.integers(1, 4), max_size=8), st.none() | st.integers(1, 4))
def test_holds_the_last_chunks_in_order(lengths: list[int], window: int | None) -> None:
    cache = FrameCache(2, window)
    for number, length in enumerate(lengths):
        cache.make_room()
        for layer in range(2):
            cache.append(layer, chunk(length, number + layer), chunk(length, -number - layer))
    kept = list(enumerate(lengths))[-window if window else 0 :]
    for layer in range(2):
        expected = [float(number + layer) for number, length in kept for _ in range(length)]
        assert held(cache, layer) == (expected, [-x for x in expected])
    assert cache.chunks == len(kept)
    assert cache.bytes == 2 * 2 * (2 * 3 * 4 * 4) * sum(length for _, length in kept)


def test_replaces_a_chunk_in_its_place() -> None:
    cache = FrameCache(1, None)
    for number in range(3):
        cache.append(0, chunk(4, number), chunk(4, number))
    cache.replace(0, 1, chunk(1, 9.0), chunk(1, 8.0))
    assert held(cache) == ([0.0] * 4 + [9.0] + [2.0] * 4, [0.0] * 4 + [8.0] + [2.0] * 4)
    assert held(cache, chunks=2)[0] == [0.0] * 4 + [9.0]
    assert held(cache, chunks=0)[0] == []


def test_evicts_a_replaced_chunk_at_its_new_length() -> None:
    cache = FrameCache(1, 2)
    cache.append(0, chunk(4, 0), chunk(4, 0))
    cache.append(0, chunk(4, 1), chunk(4, 1))
    cache.replace(0, 0, chunk(1, 9.0), chunk(1, 9.0))
    cache.make_room()
    cache.append(0, chunk(4, 2), chunk(4, 2))
    assert held(cache)[0] == [1.0] * 4 + [2.0] * 4


def test_hands_out_one_contiguous_tensor_without_copying() -> None:
    cache = FrameCache(1, None)
    cache.append(0, chunk(2, 0).transpose(1, 2).contiguous().transpose(1, 2), chunk(2, 0))
    cache.append(0, chunk(3, 1), chunk(3, 1))
    first, second = cache.context(0), cache.context(0)
    assert first is not None and second is not None
    assert all(part.is_contiguous() for part in first)
    assert first[0].data_ptr() == second[0].data_ptr()


def test_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(ValueError, match="window_chunks"):
        FrameCache(1, 0)
    with pytest.raises(IndexError, match="chunk 0 of layer 0"):
        FrameCache(1, None).replace(0, 0, chunk(1, 0), chunk(1, 0))

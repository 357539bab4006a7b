from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dense_attention import dense
from videosvc_kernels import CacheCodec, FrameCache, Int4Codec, Int8Codec, NativeCodec


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


NAMES = ["native", "int8", "int4"]
HEAD_DIM = 24


def codec_of(name: str) -> CacheCodec:
    return {"native": NativeCodec(), "int8": Int8Codec(), "int4": Int4Codec(HEAD_DIM)}[name]


def random(seed: int, length: int) -> tuple[Tensor, Tensor]:
    """A key and a value, (B=2, H=3, L, D=24)"""
    return torch.randn(2, 2, 3, length, HEAD_DIM, generator=torch.Generator().manual_seed(seed)).unbind()


@given(
    st.sampled_from(NAMES), st.lists(st.integers(1, 20), max_size=5), st.integers(0, 5), st.integers(1, 30),
    st.integers(1, 9), st.integers(0, 99),
)  # fmt: skip
def test_attends_to_what_it_holds_and_to_what_is_new(
    name: str, lengths: list[int], chunks: int, block: int, queries: int, seed: int
) -> None:
    cache = FrameCache(1, None, codec_of(name), block_tokens=block)
    for number, length in enumerate(lengths):
        cache.append(0, *random(seed + number, length))
    query, value = random(seed + 100, queries)
    key, _ = random(seed + 101, queries)
    past = cache.context(0, chunks)
    keys, values = (
        (key, value) if past is None else (torch.cat([p, n], 2) for p, n in zip(past, (key, value), strict=True))
    )
    attended = cache.attend(0, query, key, value, chunks)
    torch.testing.assert_close(attended.double(), dense(query, keys, values), atol=1e-5, rtol=0)


def test_a_native_cache_attends_as_plainly_as_can_be() -> None:
    cache = FrameCache(1, None)
    (key, value), (more, others), (query, _) = random(0, 7), random(1, 9), random(2, 9)
    attend = torch.nn.functional.scaled_dot_product_attention
    assert torch.equal(cache.attend(0, query, more, others), attend(query, more, others))
    cache.append(0, key, value)
    expected = attend(query, torch.cat([key, more], 2), torch.cat([value, others], 2))
    assert torch.equal(cache.attend(0, query, more, others), expected)


@pytest.mark.parametrize(("name", "bound"), [("int8", 0.01), ("int4", 0.16)])  # measured: 0.007 and 0.13
def test_attention_survives_the_codec(name: str, bound: float) -> None:
    coded, plain = FrameCache(1, None, codec_of(name)), FrameCache(1, None)
    for number in range(3):
        for cache in (coded, plain):
            cache.append(0, *random(number, 50))
    query, _ = random(10, 20)
    wanted = plain.attend(0, query, *random(11, 20))
    off = torch.linalg.vector_norm(coded.attend(0, query, *random(11, 20)) - wanted)
    assert off < bound * torch.linalg.vector_norm(wanted)


class Watched(Int8Codec):
    """Knows how much was ever decoded at once."""

    most = 0

    def decode(self, parts: tuple[Tensor, ...], dtype: torch.dtype) -> Tensor:
        self.most = max(self.most, parts[0].shape[2])
        return super().decode(parts, dtype)


@pytest.mark.parametrize("length", [3, 100, 1000])
def test_never_decodes_more_than_a_block(length: int) -> None:
    codec = Watched()
    cache = FrameCache(1, None, codec, block_tokens=64)
    for number in range(3000 // length):
        cache.append(0, *random(number, length))
    cache.attend(0, *random(7, 4), random(8, 4)[0])
    assert 32 < codec.most <= 64  # short chunks are put together


@pytest.mark.parametrize(("name", "bits"), [("native", 32), ("int8", 8 + 32 / HEAD_DIM), ("int4", 4 + 16 / HEAD_DIM)])
def test_takes_the_bytes_its_codec_says(name: str, bits: float) -> None:
    cache = FrameCache(2, 2, codec_of(name))
    for number in range(5):
        cache.make_room()
        for layer in range(2):
            cache.append(layer, *random(number, 30))
    assert cache.bytes * 8 == bits * 2 * 2 * (2 * 30) * (2 * 3 * HEAD_DIM)  # layers, K and V, tokens, the rest


@given(st.integers(0, 12), st.integers(1, 4), st.integers(0, 3))
def test_sinks_stay_and_the_window_rolls(count: int, window: int, sinks: int) -> None:
    cache = FrameCache(2, window, sink_chunks=sinks)
    sizes = []
    for number in range(count):
        cache.make_room()
        for layer in range(2):
            cache.append(layer, chunk(2, number), chunk(2, number))
        sizes.append(cache.bytes)
        kept = [n for n in range(number + 1) if n < sinks or n > number - window]
        assert held(cache)[0] == held(cache, layer=1)[1] == [float(n) for n in kept for _ in range(2)]
    assert max(sizes, default=0) <= (sinks + window) * 2 * 2 * chunk(2, 0).nbytes


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_finite_shows(name: str) -> None:
    cache = FrameCache(1, None, codec_of(name))
    key, value = random(0, 5)
    key[0, 0, 3, 1], value[1, 2, 0, 0] = float("nan"), float("inf")
    cache.append(0, key, value)
    attended = cache.attend(0, *random(1, 4), random(2, 4)[0])
    assert attended[0, 0].isnan().all() and not attended[1, 2].isfinite().all() and attended[0, 1].isfinite().all()


def test_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(ValueError, match="window_chunks"):
        FrameCache(1, 0)
    with pytest.raises(IndexError, match="chunk 0 of layer 0"):
        FrameCache(1, None).replace(0, 0, chunk(1, 0), chunk(1, 0))

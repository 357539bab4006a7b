from __future__ import annotations

import pytest
import torch

from triton_device import DEVICE, INTERPRETED, random
from videosvc_kernels import CacheCodec, Int4Codec, Int8Codec
from videosvc_kernels.coded_attention import coded_attention
from videosvc_kernels.partial_attention import partial_attention_reference

pytestmark = INTERPRETED
BOUNDS = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}
# The interpreter computes bfloat16 in whole numbers.
TYPES = [torch.float32, torch.float16, *([torch.bfloat16] if DEVICE.type == "cuda" else [])]


CODECS = {
    "int8": (Int8Codec(), 40),
    "int4, 32": (Int4Codec(32, DEVICE), 32),
    "int4, 24": (Int4Codec(24, DEVICE), 24),
    "int4, 128": (Int4Codec(128, DEVICE), 128),
}


@pytest.mark.parametrize(("codec", "dim"), CODECS.values(), ids=CODECS)
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (64, 64), (70, 131)])
@pytest.mark.parametrize("dtype", TYPES)
def test_equals_attention_over_decoded_keys(
    codec: CacheCodec, dim: int, queries: int, keys: int, dtype: torch.dtype
) -> None:
    query = codec.rotate(random(0, 2, 3, queries, dim)).to(dtype)
    key, value = (codec.encode(x) for x in random(1, 2, 2, 3, keys, dim))
    found = coded_attention(query, key, value, codec)
    decoded = (codec.decode(parts, torch.float64) for parts in (key, value))
    wanted = partial_attention_reference(query.double(), *decoded)
    torch.testing.assert_close(found.output.double(), wanted.output, atol=BOUNDS[dtype], rtol=0)
    torch.testing.assert_close(found.weight.double(), wanted.weight, atol=BOUNDS[dtype], rtol=0)


def test_reads_views_of_a_longer_cache() -> None:
    codec = Int8Codec()
    query, whole = random(2, 1, 2, 5, 16), random(3, 1, 2, 50, 16)
    key = codec.encode(whole)
    view = tuple(part[:, :, 10:30] for part in key)
    found = coded_attention(query, view, view, codec)
    wanted = coded_attention(query, *[codec.encode(whole[:, :, 10:30])] * 2, codec)
    torch.testing.assert_close(found.output, wanted.output, atol=1e-6, rtol=0)


def test_what_is_not_finite_shows() -> None:
    codec = Int8Codec()
    query, key = random(4, 1, 2, 3, 16), random(5, 1, 2, 9, 16)
    value = key.clone()
    value[0, 1, 4, 2] = float("nan")
    found = coded_attention(query, codec.encode(key), codec.encode(value), codec)
    assert found.output[0, 0].isfinite().all() and found.output[0, 1].isnan().all()

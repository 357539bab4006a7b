from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dense_attention import dense
from seeded import random
from videosvc_kernels import partial_attention as module
from videosvc_kernels.partial_attention import Partial, merge, partial_attention, partial_attention_reference

Attention = Callable[[Tensor, Tensor, Tensor], Partial]
both = pytest.mark.parametrize("attention", [partial_attention, partial_attention_reference])


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


class Largest(TorchDispatchMode):
    """Knows how many numbers the largest tensor has that was made."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        made = function(*args, **kwargs or {})
        sizes = [part.numel() for part in tree_leaves(made) if isinstance(part, Tensor)]
        self.numbers = max([self.numbers, *sizes])
        return made


@pytest.mark.parametrize(
    ("dtype", "head_dim", "flash"), [(torch.bfloat16, 64, True), (torch.float32, 64, False), (torch.float16, 20, False)]
)
def test_a_gpu_never_has_all_scores_at_once(
    dtype: torch.dtype, head_dim: int, flash: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But of what its flash attention does not take. Nothing is computed: the GPU need not be there."""
    monkeypatch.setattr(module, "can_use_flash_attention", lambda given: given.query.dtype != torch.float32)
    with FakeTensorMode(), Largest() as largest:
        query = torch.empty(1, 2, 300, head_dim, device="cuda", dtype=dtype)
        key, value = torch.empty(2, 1, 2, 500, head_dim, device="cuda", dtype=dtype).unbind()
        part = partial_attention(query, key, value)
    assert (part.output.shape, part.output.dtype) == (query.shape, dtype)
    assert (part.weight.shape, part.weight.dtype) == (query.shape[:-1], torch.float32)
    assert (largest.numbers < 2 * 300 * 500) == flash


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_gpus_equals_its_reference(dtype: torch.dtype) -> None:
    query, key, value = (
        random(seed, 2, 3, length, 64).cuda().to(dtype) for seed, length in ((3, 70), (4, 131), (5, 131))
    )
    found = partial_attention(query, key, value)
    wanted = partial_attention_reference(query.double(), key.double(), value.double())
    bound = 2e-6 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(found.output.double(), wanted.output, atol=bound, rtol=0)
    torch.testing.assert_close(found.weight.double(), wanted.weight, atol=bound, rtol=0)

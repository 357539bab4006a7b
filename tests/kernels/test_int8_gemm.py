from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from triton_device import BFLOAT16_ERROR, DEVICE, INTERPRETED, random
from videosvc_kernels.int8_gemm import int8_gemm, int8_gemm_reference
from videosvc_kernels.quantize import Int8Rows

pytestmark = INTERPRETED
BOUNDS = {torch.float32: 1e-6, torch.bfloat16: BFLOAT16_ERROR, torch.float16: 2**-11}


def rows(seed: int, *shape: int) -> Int8Rows:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(-127, 128, shape, dtype=torch.int8, generator=generator)
    return Int8Rows(codes.to(DEVICE), torch.rand(shape[:-1], generator=generator).to(DEVICE) / 100)


@settings(max_examples=20)
@given(
    seed=st.integers(0, 99),
    batch=st.integers(1, 3),
    tokens=st.integers(1, 150),
    inner=st.integers(1, 300),
    columns=st.integers(1, 300),
    parts=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    dtype=st.sampled_from(list(BOUNDS)),
)
def test_equals_its_reference(
    seed: int, batch: int, tokens: int, inner: int, columns: int, parts: tuple[bool, bool, bool], dtype: torch.dtype
) -> None:
    x, weight = rows(seed, batch, tokens, inner), rows(seed + 1, columns, inner)
    biased, gated, added = parts
    bias = random(seed + 2, columns) if biased else None
    gate = random(seed + 3, batch, columns) if gated else None
    residual = random(seed + 4, batch, tokens, columns).to(dtype) if added else None
    found = int8_gemm(x, weight, bias, dtype, residual, gate)
    wanted = int8_gemm_reference(x, weight, bias, residual, gate)
    assert found.dtype == dtype and found.shape == (batch, tokens, columns)
    # Roundings of float32 of each term, and one to the output's type.
    terms = int8_gemm_reference(x, weight, None if bias is None else bias.abs(), None, None).abs()
    terms = terms if gate is None else terms * gate.abs().double()[:, None]
    terms = terms if residual is None else terms + residual.abs()
    assert ((found.double() - wanted).abs() <= BOUNDS[dtype] * wanted.abs() + 1e-6 * terms + 1e-6).all()


@pytest.mark.parametrize("inner", [1024 + 5, 8960])
def test_long_sums_are_exact(inner: int) -> None:
    x = Int8Rows(torch.full((1, 2, inner), 127, dtype=torch.int8), torch.ones(1, 2))
    weight = Int8Rows(torch.full((3, inner), -127, dtype=torch.int8), torch.ones(3))
    x, weight = (Int8Rows(part.codes.to(DEVICE), part.scale.to(DEVICE)) for part in (x, weight))
    expected = torch.full((1, 2, 3), float(-inner * 127**2), device=DEVICE)
    assert torch.equal(int8_gemm(x, weight, None, torch.float32), expected)


def test_reads_views() -> None:
    x, weight = rows(10, 1, 5, 40), rows(11, 6, 20)
    x, weight = Int8Rows(x.codes[..., ::2], x.scale), Int8Rows(weight.codes, torch.stack(2 * [weight.scale], 1)[:, 0])
    bias, gate, residual = random(12, 6, 4)[:, 1], random(13, 6, 1).t(), random(14, 1, 6, 5).transpose(1, 2)
    found = int8_gemm(x, weight, bias, torch.float32, residual, gate).double()
    torch.testing.assert_close(found, int8_gemm_reference(x, weight, bias, residual, gate), rtol=1e-6, atol=1e-6)


def test_nan_shows_in_its_row_and_there_only() -> None:
    x, weight = rows(5, 1, 9, 33), rows(6, 17, 33)
    x.scale[0, 4] = float("nan")
    y = int8_gemm(x, weight, random(7, 17), torch.float32)
    assert y[0, 4].isnan().all() and y[0, [0, 1, 2, 3, 5, 6, 7, 8]].isfinite().all()


def test_blocks_are_all_written() -> None:
    """More blocks of rows than go together, a last one that is not whole, and several across."""
    x, weight = rows(8, 2, 700, 16), rows(9, 260, 16)
    found = int8_gemm(x, weight, None, torch.float32).double()
    torch.testing.assert_close(found, int8_gemm_reference(x, weight, None), rtol=1e-6, atol=1e-6)

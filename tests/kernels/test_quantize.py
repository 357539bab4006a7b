from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seeded import random
from videosvc_kernels.quantize import TINY, dequantize_rows, quantize_rows

ROUNDING = 1 + 1e-4  # of a step: the division is float32's


@given(st.integers(0, 99), st.integers(1, 9), st.integers(1, 70), st.integers(-149, 120))
def test_off_by_half_a_step_at_most(seed: int, rows: int, length: int, exponent: int) -> None:
    x = (random(seed, rows, length) * 2.0**exponent).clamp(-3e38, 3e38)
    quantised = quantize_rows(x)
    off = (dequantize_rows(quantised, torch.float64) - x.double()).abs()
    assert (off <= quantised.scale[:, None].double() / 2 * ROUNDING).all()
    assert (quantised.codes.abs() <= 127).all()
    largest = x.abs().amax(1)
    expected = (largest.double() / 127).clamp_min(TINY)
    torch.testing.assert_close(quantised.scale.double(), expected, rtol=1e-6, atol=0)


def test_zeros_stay_zeros() -> None:
    x = torch.zeros(3, 8)
    x[1] = random(0, 8)
    back = dequantize_rows(quantize_rows(x))
    assert (back[[0, 2]] == 0).all() and (back[1] != 0).any()


def test_denormals_are_off_by_half_of_the_smallest_normal_at_most() -> None:
    x = torch.tensor([[1e-45, -1e-45, 0.0], [1e-40, -3e-39, 5e-39], [TINY, -TINY / 3, 190 * 2.0**-149]])
    quantised = quantize_rows(x)
    assert quantised.scale.isfinite().all() and (quantised.scale > 0).all()
    assert ((dequantize_rows(quantised, torch.float64) - x.double()).abs() <= TINY / 2).all()


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_shows_in_its_row_and_there_only(odd: float) -> None:
    x = random(1, 3, 5)
    x[1, 2] = odd
    back = dequantize_rows(quantize_rows(x))
    assert back[1].isnan().all() and back[[0, 2]].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_any_float_type(dtype: torch.dtype) -> None:
    x = random(2, 4, 16).to(dtype)
    quantised, plain = quantize_rows(x), quantize_rows(x.float())
    assert torch.equal(quantised.codes, plain.codes) and torch.equal(quantised.scale, plain.scale)
    assert dequantize_rows(quantised, dtype).dtype == dtype


def test_bytes() -> None:
    assert quantize_rows(random(3, 6, 40)).nbytes == 6 * (40 + 4)

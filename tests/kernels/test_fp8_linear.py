"""fp8 products run here in the CPU's emulation of `torch._scaled_mm`; on a GPU they have not been tried."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from seeded import random
from videosvc_kernels import Fp8Linear, fp8_product_refusal, fp8_refusal
from videosvc_kernels.fp8_linear import FP8, quantize_fp8, scaled_fp8_linear, stored_fp8_linear


@given(st.integers(0, 99), st.integers(1, 6), st.integers(1, 40), st.integers(-120, 120))
def test_codes_are_off_by_a_sixteenth_at_most(seed: int, rows: int, length: int, exponent: int) -> None:
    x = random(seed, rows, length) * 2.0**exponent
    codes, scale = quantize_fp8(x)
    off = (codes.double() * scale[:, None].double() - x.double()).abs()
    # Three bits of mantissa; below 2^-6 of the code's range an even grid of 2^-9.
    assert (off <= x.double().abs() / 16 * 1.001 + scale[:, None].double() * 2.0**-10 * 1.001).all()


def test_zeros_and_what_is_not_finite() -> None:
    x = torch.zeros(3, 4)
    x[1, 2], x[2, 0] = float("nan"), float("inf")
    codes, scale = quantize_fp8(x)
    back = codes.float() * scale[:, None]
    assert (back[0] == 0).all() and back[1:].isnan().all()


@given(st.integers(0, 99), st.integers(1, 20), st.integers(1, 4), st.integers(1, 4))
def test_both_ways_equal_their_references(seed: int, m: int, k: int, n: int) -> None:
    x, weight = random(seed, m, 16 * k), random(seed + 1, 16 * n, 16 * k)
    codes, scale = quantize_fp8(weight)
    stored = codes.double() * scale[:, None].double()
    torch.testing.assert_close(stored_fp8_linear(x, codes, scale).double(), x.double() @ stored.T, rtol=1e-5, atol=1e-4)
    rows, row_scale = quantize_fp8(x)
    expected = (rows.double() * row_scale[:, None].double()) @ stored.T
    result = scaled_fp8_linear(x, codes, scale)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.double(), expected, rtol=2**-8, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_cpu_it_says_that_it_only_stores(dtype: torch.dtype) -> None:
    linear = nn.Linear(33, 17).to(dtype).requires_grad_(False)
    low = Fp8Linear.of(linear)
    assert low.storage_only and "storage_only=True" in repr(low)
    assert low.codes.dtype == FP8 and low.codes.nbytes == 33 * 17
    x = random(3, 2, 5, 33).to(dtype)
    y = low(x)
    assert y.dtype == dtype and y.shape == (2, 5, 17)
    assert torch.linalg.vector_norm(y - linear(x)) < 0.05 * torch.linalg.vector_norm(linear(x))
    refusal = fp8_product_refusal(torch.device("cpu"))
    assert refusal is not None and "only stored" in refusal


@given(st.integers(0, 99), st.integers(1, 20), st.integers(1, 70), st.integers(1, 70), st.booleans())
def test_off_by_no_more_than_the_codes(seed: int, m: int, k: int, n: int, bias: bool) -> None:
    linear, x = nn.Linear(k, n, bias=bias).requires_grad_(False), random(seed, m, k)
    linear.weight.copy_(random(seed + 1, n, k))
    low = Fp8Linear.of(linear)
    # Each weight off by a sixteenth of itself, or half of the even grid below 2^-6 of the scale's range.
    bound = x.double().abs() @ (linear.weight.double().abs() / 16 + low.scale.double()[:, None] * 2.0**-10).T
    wanted = x.double() @ linear.weight.double().T + (0 if linear.bias is None else linear.bias.double())
    assert ((low(x).double() - wanted).abs() <= bound * (1 + 1e-3) + 1e-4).all()


def test_takes_a_quarter_of_the_bytes() -> None:
    linear = nn.Linear(1024, 256, bias=False)
    assert sum(part.nbytes for part in Fp8Linear.of(linear).buffers()) < 0.26 * linear.weight.nbytes


@pytest.mark.parametrize(("capability", "stored"), [((8, 6), True), ((8, 9), False), ((9, 0), False)])
def test_a_gpu_says_whether_it_multiplies(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], stored: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    refusal = fp8_product_refusal(torch.device("cuda:0"))
    assert (refusal is not None) is stored
    if refusal is not None:
        assert refusal == "cuda:0 has compute capability 8.6, fp8 products need 8.9: weights are only stored in it"


def test_refuses_devices_that_cannot_even_store() -> None:
    assert fp8_refusal(torch.device("cpu")) is None
    refusal = fp8_refusal(torch.device("meta"))
    assert refusal is not None and refusal.startswith("meta stores no fp8 (") and "\n" not in refusal

"""Both ways are tested on every CPU: products of int8, which are exact but slow on some, and weights stored in it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from videosvc_kernels import Int8Linear, int8_product_refusal, int8_refusal
from videosvc_kernels.int8_linear import (
    MAX_IN_FEATURES,
    int8_linear_reference,
    int8_product,
    padded_int8_product,
)
from videosvc_kernels.quantize import quantize_rows

sizes = st.integers(1, 70)


def layer(seed: int, inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    generator = torch.Generator().manual_seed(seed)
    linear = nn.Linear(inputs, outputs, bias=bias)
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return linear.requires_grad_(False)


def tokens(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def codes(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-127, 128, shape, dtype=torch.int8, generator=generator)


def low_bit(linear: nn.Linear, storage_only: bool = False) -> Int8Linear:
    """Whatever this machine's CPU would choose."""
    low = Int8Linear.of(linear)
    low.storage_only = storage_only
    return low


@given(st.integers(0, 99), sizes, sizes, sizes, st.booleans(), st.booleans())
def test_equals_its_reference(seed: int, m: int, k: int, n: int, bias: bool, stored: bool) -> None:
    linear = layer(seed, k, n, bias)
    x = tokens(seed + 1, m, k)
    low = low_bit(linear, stored)
    expected = int8_linear_reference(x, low.weight, linear.bias, stored)
    # Four roundings of float32: the sum of codes, two scales, the bias. What is only stored is summed in float32.
    rounding = 1e-5 if stored else 1e-6
    torch.testing.assert_close(low(x).double(), expected, rtol=rounding, atol=rounding * (1 + k**0.5))


@given(st.integers(0, 99), sizes, sizes, sizes, st.booleans())
def test_off_by_no_more_than_the_quantisations(seed: int, m: int, k: int, n: int, stored: bool) -> None:
    linear, x = layer(seed, k, n), tokens(seed + 1, m, k)
    low = low_bit(linear, stored)
    steps, weight_steps = quantize_rows(x).scale.double()[:, None], low.scale.double()
    sums, weight_sums = x.abs().double().sum(1, keepdim=True), linear.weight.abs().double().sum(1)
    # Each number off by half a step: |x'w' - xw| <= |x| dw + |w| dx + dx dw.
    bound = sums * weight_steps / 2 + weight_sums * steps / 2 + k * steps * weight_steps / 4
    off = (low(x).double() - (x.double() @ linear.weight.double().T + linear.bias.double())).abs()
    assert (off <= bound * (1 + 1e-3) + 1e-4).all()


def test_is_close_on_gaussian_data() -> None:
    linear, x = layer(0, 256, 512), tokens(1, 128, 256)
    off = torch.linalg.vector_norm(Int8Linear.of(linear)(x) - linear(x)) / torch.linalg.vector_norm(linear(x))
    assert off < 0.015  # measured: 0.0097


@given(st.integers(0, 99), st.integers(1, 40), sizes, sizes)
def test_products_are_exact_padded_or_not(seed: int, m: int, k: int, n: int) -> None:
    a, b = codes(seed, m, k), codes(seed + 1, n, k)
    exact = a.long() @ b.long().T
    for product in (int8_product(a, b), padded_int8_product(a, b)):
        assert product.shape == (m, n) and torch.equal(product.long(), exact)


def test_the_longest_sum_does_not_overflow() -> None:
    longest = torch.full((1, MAX_IN_FEATURES), -127, dtype=torch.int8)
    x = torch.full((1, MAX_IN_FEATURES), 127.0)
    low = Int8Linear(longest, torch.ones(1), None)
    low.storage_only = False
    assert low(x).item() == pytest.approx(-MAX_IN_FEATURES * 127**2, rel=1e-6)
    with pytest.raises(ValueError, match="in_features: 133145 is more"):
        Int8Linear(torch.zeros(1, MAX_IN_FEATURES + 1, dtype=torch.int8), torch.ones(1), None)


@pytest.mark.parametrize("shape", [(8,), (0, 8), (2, 3, 8), (2, 1, 3, 8)])
def test_any_leading_axes(shape: tuple[int, ...]) -> None:
    linear = layer(2, 8, 5)
    x = tokens(3, *shape)
    assert Int8Linear.of(linear)(x).shape == linear(x).shape


def test_a_row_does_not_depend_on_others() -> None:
    low, x = low_bit(layer(4, 33, 17)), tokens(5, 9, 33)
    alone = torch.cat([low(row[None]) for row in x])
    assert torch.equal(low(x), alone)
    x[3] *= 1e6
    assert torch.equal(low(x)[[0, 1, 2, 4, 5, 6, 7, 8]], alone[[0, 1, 2, 4, 5, 6, 7, 8]])


@pytest.mark.parametrize("stored", [False, True])
def test_zeros_give_the_bias_and_nan_shows(stored: bool) -> None:
    linear = layer(6, 12, 7)
    x = torch.zeros(3, 12)
    x[1, 4], x[2, 0] = float("nan"), float("inf")
    y = low_bit(linear, stored)(x)
    assert torch.equal(y[0], linear.bias) and not y[1:].isfinite().any()


def test_channels_have_scales_of_their_own() -> None:
    linear = layer(7, 64, 4, bias=False)
    with torch.no_grad():
        linear.weight[0] *= 1e-4
        linear.weight[1] = 0
    x = tokens(8, 32, 64)
    y, expected = Int8Linear.of(linear)(x), linear(x)
    assert torch.linalg.vector_norm(y[:, 0] - expected[:, 0]) < 0.02 * torch.linalg.vector_norm(expected[:, 0])
    assert (y[:, 1] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keeps_the_type(dtype: torch.dtype) -> None:
    low = Int8Linear.of(layer(9, 16, 8).to(dtype))
    y = low(tokens(10, 4, 16).to(dtype))
    assert y.dtype == dtype and y.isfinite().all()
    assert (low.codes.dtype, low.scale.dtype) == (torch.int8, torch.float32)


def test_takes_a_quarter_of_the_bytes() -> None:
    linear = layer(11, 1024, 256, bias=False)
    low = sum(part.nbytes for part in Int8Linear.of(linear).buffers())
    assert low < 0.26 * linear.weight.nbytes


def test_refuses_devices_that_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    assert int8_refusal(torch.device("cpu")) is None
    refusal = int8_refusal(torch.device("meta"))
    assert refusal is not None and refusal.startswith("meta has no int8 matrix product (") and "\n" not in refusal
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: (a.long() @ b.long()).clamp(-(2**15), 2**15 - 1).int())
    assert int8_refusal(torch.device("cpu:0")) == "the int8 matrix product of cpu:0 overflows"
    int8_refusal.cache_clear()


@pytest.mark.parametrize(
    ("can", "stored"),
    [
        ({"architecture": "x86_64", "avx2": True}, True),
        ({"architecture": "x86_64", "avx512_vnni": True}, False),
        ({"architecture": "aarch64"}, False),  # not known to be slow
    ],
)
def test_without_the_instructions_weights_are_only_stored(
    monkeypatch: pytest.MonkeyPatch, can: dict[str, object], stored: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: can)
    refusal = int8_product_refusal(torch.device("cpu"))
    assert (refusal is not None) is stored
    if refusal is not None:
        assert refusal == "this CPU has none of avx512_vnni, amx_int8, avx_vnni: weights are only stored in int8"
    low = Int8Linear.of(layer(12, 8, 4))
    assert low.storage_only is stored and f"storage_only={stored}" in repr(low)
    assert int8_product_refusal(torch.device("cuda:0")) is None

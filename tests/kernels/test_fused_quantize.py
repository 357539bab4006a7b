from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from triton_device import DEVICE, INTERPRETED, random
from videosvc_kernels.fused_quantize import (
    quantize_activated,
    quantize_activated_reference,
    quantize_modulated,
    quantize_modulated_reference,
)
from videosvc_kernels.quantize import Int8Rows, dequantize_rows, quantize_rows

pytestmark = INTERPRETED
EPSILON = 1e-6
sizes = st.integers(1, 70)
types = st.sampled_from([torch.float32, torch.bfloat16])


def check(found: Int8Rows, exact: Tensor) -> None:
    """`exact`: float64. Off by half a step, as quantised rows are, and by what float32 loses before the rounding."""
    assert found.codes.dtype == torch.int8 and (found.codes.abs() <= 127).all()
    largest = exact.abs().amax(-1)
    torch.testing.assert_close(found.scale.double(), largest / 127, rtol=1e-4, atol=1e-5)
    off = (dequantize_rows(found, torch.float64) - exact).abs()
    assert (off <= found.scale[..., None].double() * 0.501 + 1e-4 * largest[..., None] + 1e-5).all()


def normalised(x: Tensor) -> Tensor:
    x = x.double()
    return torch.nn.functional.layer_norm(x, x.shape[-1:], eps=EPSILON)


@settings(max_examples=25)
@given(st.integers(0, 99), st.integers(1, 3), st.integers(1, 5), st.integers(2, 300), types)
def test_modulated_rows(seed: int, batch: int, tokens: int, length: int, dtype: torch.dtype) -> None:
    x = (3 * random(seed, batch, tokens, length) + random(seed + 1, batch, tokens, 1)).to(dtype)
    gain, shift = 1 + random(seed + 2, batch, length), random(seed + 3, batch, length)
    exact = normalised(x) * gain.double()[:, None] + shift.double()[:, None]
    found = quantize_modulated(x, gain, shift, EPSILON)
    assert found.codes.shape == x.shape and found.scale.shape == x.shape[:-1]
    check(found, exact)
    check(quantize_modulated_reference(x, gain, shift, EPSILON), exact)


def test_an_affine_norm_is_for_all_rows() -> None:
    x, weight, bias = random(0, 2, 3, 48).bfloat16(), random(1, 48).bfloat16(), random(2, 48).bfloat16()
    check(quantize_modulated(x, weight, bias, EPSILON), normalised(x) * weight.double() + bias.double())


@settings(max_examples=25)
@given(st.integers(0, 99), st.integers(1, 5), sizes, st.booleans(), types)
def test_activated_rows(seed: int, tokens: int, length: int, gelu: bool, dtype: torch.dtype) -> None:
    x = (5 * random(seed, 2, tokens, length)).to(dtype)
    exact = torch.nn.functional.gelu(x.double(), approximate="tanh") if gelu else x.double()
    check(quantize_activated(x, gelu), exact)
    check(quantize_activated_reference(x, gelu), exact)


@pytest.mark.parametrize("shape", [(7,), (0, 7), (3, 130)])
def test_no_activation_is_plain_quantising(shape: tuple[int, ...]) -> None:
    x = random(4, *shape)
    found, wanted = quantize_activated(x), quantize_rows(x)
    torch.testing.assert_close(found.scale, wanted.scale)
    assert (found.codes.int() - wanted.codes.int()).abs().sum() <= (0 if DEVICE.type == "cpu" else 2)


def test_ties_go_to_even_numbers() -> None:
    x = torch.tensor([[127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5]], device=DEVICE)
    assert quantize_activated(x).codes.tolist() == [[127, 0, 2, 2, 0, -2, -2]]


def test_zeros_and_what_is_not_finite() -> None:
    x = torch.zeros(4, 40, device=DEVICE)
    x[1, 2], x[2, 0], x[3, 7] = float("nan"), float("inf"), 1e-42
    rows = quantize_activated(x)
    assert (rows.codes[0] == 0).all() and rows.scale[1:3].isnan().all() and rows.scale[[0, 3]].isfinite().all()
    x[0] = random(5, 40)
    rows = quantize_modulated(x[None, :3], torch.ones(1, 40, device=DEVICE), torch.zeros(1, 40, device=DEVICE), EPSILON)
    assert rows.scale[0, 0].isfinite() and rows.scale[0, 1:].isnan().all()


def test_reads_views() -> None:
    x = random(6, 2, 40, 5).transpose(1, 2)
    gain, shift = random(7, 2, 6, 40)[:, 1], random(8, 2, 6, 40)[:, 3]
    check(quantize_modulated(x, gain, shift, EPSILON), normalised(x) * gain.double()[:, None] + shift.double()[:, None])

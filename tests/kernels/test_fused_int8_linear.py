"""`Int8Linear` as it is on a GPU, on the CPU through Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from triton_device import BFLOAT16_ERROR, DEVICE, INTERPRETED, random
from videosvc_kernels import Int8Linear
from videosvc_kernels.int8_linear import int8_linear_reference

pytestmark = INTERPRETED
sizes = st.integers(1, 70)


def fused(seed: int, inputs: int, outputs: int, bias: bool = True) -> Int8Linear:
    linear = nn.Linear(inputs, outputs, bias=bias, device=DEVICE).requires_grad_(False)
    for number, parameter in enumerate(linear.parameters()):
        parameter.copy_(random(seed + number, *parameter.shape))
    layer = Int8Linear.of(linear)
    layer.fused = True  # elsewhere than on a GPU it is not
    return layer


@settings(max_examples=20)
@given(st.integers(0, 99), sizes, sizes, sizes, st.booleans())
def test_equals_its_reference(seed: int, m: int, k: int, n: int, bias: bool) -> None:
    layer, x = fused(seed, k, n, bias), random(seed + 2, m, k)
    found, wanted = layer(x).double(), int8_linear_reference(x, layer.weight, layer.bias)
    if DEVICE.type == "cpu":  # rounded as torch rounds
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6 * (1 + k**0.5))
    assert torch.linalg.vector_norm(found - wanted) <= 2e-3 * torch.linalg.vector_norm(wanted) + 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(24,), (0, 24), (2, 3, 24), (2, 1, 3, 24)])
def test_shape_and_type_stay(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    layer, x = fused(0, 24, 40), random(2, *shape).to(dtype)
    y = layer(x)
    assert (y.shape, y.dtype) == ((*shape[:-1], 40), dtype)
    wanted = int8_linear_reference(x, layer.weight, layer.bias)
    torch.testing.assert_close(y.double(), wanted, rtol=2 * BFLOAT16_ERROR, atol=1e-3)


def test_what_is_not_finite_shows() -> None:
    x = torch.zeros(3, 12, device=DEVICE)
    x[1, 4], x[2, 0] = float("nan"), float("inf")
    layer = fused(3, 12, 7)
    y = layer(x)
    assert torch.equal(y[0], layer.bias) and y[1:].isnan().all()


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, while it compiles
def test_a_compiler_leaves_it_whole() -> None:
    """No graph ends at it, and sizes may change."""
    layer = fused(5, 16, 24)
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="eager")
    for rows in (3, 7):
        x = random(rows, 2, rows, 16)
        assert torch.equal(compiled(x), layer(x))

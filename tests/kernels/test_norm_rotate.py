from __future__ import annotations

import pytest
import torch
from diffusers.models.normalization import RMSNorm
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from triton_device import BFLOAT16_ERROR, DEVICE, INTERPRETED, random
from videosvc_kernels import Rotation, rotate
from videosvc_kernels.norm_rotate import norm_rotate, norm_rotate_reference

EPSILON = 1e-6
pytestmark = INTERPRETED
BOUNDS = {torch.float32: 1e-5, torch.bfloat16: BFLOAT16_ERROR}


def exact(x: Tensor, weight: Tensor, heads: int, cos: Tensor | None, sin: Tensor | None) -> Tensor:
    """In float64, by complex numbers."""
    x = x.double()
    x = x * (x.square().mean(-1, keepdim=True) + EPSILON).rsqrt() * weight.double()
    x = x.unflatten(-1, (heads, -1)).transpose(1, 2)
    if cos is None or sin is None:
        return x
    turned = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * torch.complex(cos.double(), sin.double())
    return torch.view_as_real(turned).flatten(-2)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 99),
    batch=st.integers(1, 3),
    tokens=st.integers(1, 9),
    heads=st.integers(1, 5),
    half=st.integers(1, 40),
    rotated=st.sampled_from(["no", "alike", "each"]),
    dtype=st.sampled_from(list(BOUNDS)),
)
def test_equals_the_exact_one(
    seed: int, batch: int, tokens: int, heads: int, half: int, rotated: str, dtype: torch.dtype
) -> None:
    length = 2 * heads * half
    x, weight = (3 * random(seed, batch, tokens, length)).to(dtype), random(seed + 1, length).to(dtype)
    angles = 6 * random(seed + 2, *((tokens, half) if rotated == "alike" else (batch, 1, tokens, half)))
    rotation = None if rotated == "no" else Rotation(angles.cos(), angles.sin())
    wanted = exact(x, weight, heads, *((None, None) if rotation is None else (rotation.cos, rotation.sin)))
    bound = BOUNDS[dtype] * wanted.abs() + 1e-5 * (1 + wanted.abs().amax())
    found, plain = (way(x, weight, EPSILON, heads, rotation) for way in (norm_rotate, norm_rotate_reference))
    assert found.dtype == dtype and found.is_contiguous() and found.shape == (batch, heads, tokens, 2 * half)
    assert ((found.double() - wanted).abs() <= bound).all()
    assert ((plain.double() - wanted).abs() <= bound).all()


@pytest.mark.parametrize("head_dim", [24, 128])
def test_does_what_the_transformer_does(head_dim: int) -> None:
    norm = RMSNorm(2 * head_dim, eps=EPSILON).to(DEVICE).requires_grad_(False)
    norm.weight.copy_(random(3, 2 * head_dim))
    rotation = Rotation.of_frames(5, 2, 2, 3, head_dim, device=DEVICE)
    x = random(4, 2, 12, 2 * head_dim)
    wanted = rotate(norm(x).view(2, 12, 2, head_dim).transpose(1, 2), rotation)
    found = norm_rotate(x, norm.weight, norm.eps, 2, rotation)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_nan_shows_in_its_token_and_there_only() -> None:
    x = random(5, 1, 3, 24)
    x[0, 1, 7] = float("nan")
    y = norm_rotate(x, random(6, 24), EPSILON, 2, None)
    assert y[:, :, 1].isnan().all() and y[:, :, [0, 2]].isfinite().all()

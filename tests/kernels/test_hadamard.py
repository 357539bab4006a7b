from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import hadamard

from seeded import random
from videosvc_kernels.hadamard import RandomHadamard, walsh_hadamard


@pytest.mark.parametrize("length", [1, 2, 8, 64, 128])
def test_the_transform_is_hadamards(length: int) -> None:
    x = random(0, 3, 5, length)
    expected = x.double() @ torch.from_numpy(hadamard(length)).double() / length**0.5
    torch.testing.assert_close(walsh_hadamard(x).double(), expected, atol=1e-5, rtol=1e-5)


@given(st.integers(1, 130), st.integers(0, 99))
def test_a_rotation_keeps_inner_products_and_can_be_undone(dim: int, seed: int) -> None:
    rotation, (x, y) = RandomHadamard(dim), random(seed, 2, 7, dim)
    rotated, other = rotation.rotate(x), rotation.rotate(y)
    bound = 1e-5 * dim
    torch.testing.assert_close(rotated @ other.T, x @ y.T, atol=bound, rtol=0)
    torch.testing.assert_close(rotation.unrotate(rotated), x, atol=bound, rtol=0)


@pytest.mark.parametrize(("dim", "piece"), [(32, 32), (128, 128), (24, 16), (96, 64)])
def test_an_outlier_is_spread_evenly(dim: int, piece: int) -> None:
    x = torch.zeros(dim)
    x[3] = 100.0
    rotated = RandomHadamard(dim).rotate(x).abs()
    torch.testing.assert_close(rotated[:piece], torch.full((piece,), 100.0 / piece**0.5))
    assert (rotated[piece:] == 0).all()


def test_is_the_same_each_time_and_no_plain_transform() -> None:
    x = random(1, 4, 64)
    rotated = RandomHadamard(64).rotate(x)
    assert torch.equal(rotated, RandomHadamard(64).rotate(x))
    assert not torch.allclose(rotated, walsh_hadamard(x), atol=0.1)  # a constant vector would become one number


def test_keeps_the_type() -> None:
    x = random(2, 4, 32).bfloat16()
    rotation = RandomHadamard(32)
    assert rotation.rotate(x).dtype == rotation.unrotate(x).dtype == torch.bfloat16

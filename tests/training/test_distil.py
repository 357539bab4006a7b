from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from training.toyworld.distil import two_halves


def _exact(x: Tensor, t: Tensor, r: Tensor, rate: float) -> Tensor:
    """Mean velocity of dx/dt = rate x, whose flow map is x_r = x exp(rate (r - t))."""
    span = (t - r).view(-1, 1, 1, 1, 1)
    return x * (1 - torch.exp(-rate * span)) / span


def test_halves_of_an_exact_flow_map_are_its_whole_jump() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 4, 2, 5, 6, dtype=torch.float64)
    t, r = torch.tensor([1.0, 0.75, 0.5]).double(), torch.tensor([0.0, 0.5, 0.25]).double()
    jump = partial(_exact, rate=1.3)
    assert torch.allclose(two_halves(jump, x, t, r).double(), jump(x, t, r), atol=1e-6)


def test_halves_of_euler_steps_are_two_euler_steps() -> None:
    x = torch.ones(1, 1, 1, 1, 1)
    mean = two_halves(lambda x, t, r: x * math.log(2), x, torch.ones(1), torch.zeros(1))
    assert torch.allclose(x - mean, torch.tensor((1 - math.log(2) / 2) ** 2))

"""What samplers are tried on: noise, a model of which no solution is known, and how two states are compared."""

from __future__ import annotations

import torch
from torch import Tensor

from seeded import random
from videosvc_samplers import SamplerState

SHAPE = (1, 3, 2, 4, 4)


def noise(seed: int) -> Tensor:
    return random(seed, *SHAPE)


def curved(x: Tensor, t: float, r: float) -> Tensor:
    """No solution is known: a model like any other."""
    return torch.tanh(x * (1 + t)) - 0.3 * r


def same_bits(a: SamplerState, b: SamplerState) -> bool:
    left, right = a.to_tensors(), b.to_tensors()
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)

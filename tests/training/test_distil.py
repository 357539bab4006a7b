from __future__ import annotations

import math
import random
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from toyworld_batch import batch_of, small_transformer
from training.toyworld.distil import landed, reward_loss, two_halves
from training.toyworld.flow import Velocity
from training.toyworld.reader import Reader
from training.toyworld.vocabulary import KINDS


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


def test_the_reward_is_for_what_was_asked() -> None:
    """A classifier that sees stars everywhere: only captions of other things are told off, and the student learns."""
    torch.manual_seed(0)
    reader = Reader(6)
    evidence = torch.full((len(KINDS) + 1,), -9.0)
    evidence[KINDS.index("star")] = 9
    reader.load_state_dict(
        reader.state_dict() | {"leave.weight": torch.zeros_like(reader.leave.weight), "leave.bias": evidence}
    )
    stars, rings = (batch_of(kind) for kind in ("star", "ring"))
    velocity = Velocity(small_transformer())
    assert reward_loss(velocity, reader, stars, random.Random(0)) < 0.01
    assert reward_loss(velocity, reader, rings, random.Random(0)) > 2
    hidden = replace(rings, covered=torch.zeros_like(rings.covered))
    assert reward_loss(velocity, reader, hidden, random.Random(0)) == 0  # nobody asks for what is out of the frame


def test_lands_in_one_jump_or_in_two() -> None:
    torch.manual_seed(0)
    batch = batch_of("star")
    velocity = Velocity(small_transformer())
    for middle in (torch.ones(4), torch.tensor([0.25, 0.5, 0.75, 1.0])):
        made = landed(velocity, batch, middle)
        assert made.shape == batch.latents.shape and made.isfinite().all()
        made.square().mean().backward()
        assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in velocity.parameters())

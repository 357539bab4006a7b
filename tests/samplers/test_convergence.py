"""Against a flow that is solved in closed form: noise N(0, 1) to data N(mean, spread^2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from videosvc_samplers import SamplerState, consistency, flow_map, flow_sigmas, get_sampler, jump, unipc


@dataclass(frozen=True)
class GaussianFlow:
    mean: float
    spread: float

    def std(self, t: float) -> float:
        return math.hypot((1 - t) * self.spread, t)

    def move(self, x: Tensor, t: float, r: float) -> Tensor:
        """The exact flow map: the quantile of x stays, the distribution around it changes."""
        return (1 - r) * self.mean + self.std(r) / self.std(t) * (x - (1 - t) * self.mean)

    def velocity(self, x: Tensor, t: float, r: float) -> Tensor:
        """The exact mean velocity from t to r; E[noise - x0 | x_t] when r == t."""
        if r < t:
            return (x - self.move(x, t, r)) / (t - r)
        slope = (t - (1 - t) * self.spread**2) / self.std(t) ** 2
        return slope * (x - (1 - t) * self.mean) - self.mean


def noise() -> Tensor:
    return torch.randn(1, 4, 2, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def error(name: str, flow: GaussianFlow, steps: int, shift: float) -> float:
    start = SamplerState.start(noise())
    *_, last = get_sampler(name)(flow.velocity, start, flow_sigmas(steps, shift))
    return float((last.latents - flow.move(noise(), 1.0, 0.0)).abs().mean())


flows = st.builds(GaussianFlow, mean=st.floats(-2.0, 2.0), spread=st.floats(0.1, 2.0))


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("unipc", 2)])
@pytest.mark.parametrize(
    ("flow", "shift"),
    [(GaussianFlow(1.5, 0.4), 1.0), (GaussianFlow(-0.5, 0.7), 3.0), (GaussianFlow(0.0, 0.2), 1.0)],
)
def test_halving_the_steps_converges_at_the_methods_order(
    name: str, order: int, flow: GaussianFlow, shift: float
) -> None:
    # UniPC's error changes its sign somewhere from 10 to 80 steps; from 160 on, the order shows: 1.9 to 2.0.
    order_seen = math.log2(error(name, flow, 160, shift) / error(name, flow, 320, shift))
    assert order_seen == pytest.approx(order, abs=0.2)


@settings(deadline=None, max_examples=20)
@given(flow=flows, steps=st.integers(1, 12), shift=st.floats(0.5, 8.0))
def test_an_exact_flow_map_is_exact_at_any_step_count(flow: GaussianFlow, steps: int, shift: float) -> None:
    sigmas = flow_sigmas(steps, shift)
    for state in flow_map(flow.velocity, SamplerState.start(noise()), sigmas):
        expected = flow.move(noise(), 1.0, sigmas[state.step])
        torch.testing.assert_close(state.latents, expected, rtol=0, atol=1e-9)


@settings(deadline=None, max_examples=20)
@given(flow=flows, times=st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3, unique=True))
def test_two_jumps_equal_one(flow: GaussianFlow, times: list[float]) -> None:
    r, middle, t = sorted(times)
    halves = jump(flow.velocity, jump(flow.velocity, noise(), t, middle), middle, r)
    torch.testing.assert_close(halves, jump(flow.velocity, noise(), t, r), rtol=0, atol=1e-9)


@settings(deadline=None, max_examples=10)
@given(flow=flows, steps=st.integers(1, 6), seed=st.integers(0, 99))
def test_consistency_draws_from_the_data(flow: GaussianFlow, steps: int, seed: int) -> None:
    first = torch.randn(1, 4, 16, 32, 32, generator=torch.Generator().manual_seed(seed))
    *_, last = consistency(flow.velocity, SamplerState.start(first, seed + 1), flow_sigmas(steps))
    # 65536 samples: four standard errors of a mean are 0.016 spreads, of a spread 0.011.
    assert float(last.latents.mean()) == pytest.approx(flow.mean, abs=0.02 * flow.spread)
    assert float(last.latents.std()) == pytest.approx(flow.spread, rel=0.015)


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_unipc_is_diffusers_loop(steps: int) -> None:
    flow, sigmas = GaussianFlow(1.0, 0.5), flow_sigmas(steps, 3.0)
    solver = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    solver.set_timesteps(sigmas=np.array(sigmas[:-1]))
    x = noise().float()
    for t, timestep in zip(sigmas[:-1], solver.timesteps, strict=True):
        x = solver.step(flow.velocity(x, t, t), timestep, x).prev_sample
    *_, last = unipc(flow.velocity, SamplerState.start(noise().float()), sigmas)
    assert torch.equal(last.latents, x)

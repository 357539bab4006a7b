from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from curved_flow import curved, noise, same_bits
from videosvc_samplers import SamplerState, draft, draft_sigmas, flow_map, flow_sigmas
from videosvc_samplers.state import Denoiser

NEVER = 1e-9  # a threshold that no curved flow keeps to
steps_of_a_schedule = st.integers(1, 6).map(lambda half: 2 * half)
shifts = st.floats(0.5, 8.0)


def run(denoiser: Denoiser, state: SamplerState, sigmas: tuple[float, ...], threshold: float) -> list[SamplerState]:
    return list(draft(denoiser, state, sigmas, threshold))


@settings(deadline=None, max_examples=20)
@given(steps=steps_of_a_schedule, shift=shifts, seed=st.integers(0, 99), threshold=st.floats(1e-5, 1.0))
def test_a_straight_flow_is_accepted_and_integrated_exactly(
    steps: int, shift: float, seed: int, threshold: float
) -> None:
    clean, first = noise(seed + 1000), noise(seed)
    states = run(lambda x, t, r: first - clean, SamplerState.start(first), draft_sigmas(steps, shift), threshold)
    assert [(state.step, state.done) for state in states] == [(1, False), (2, True)]
    torch.testing.assert_close(states[-1].latents, clean, rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(steps=steps_of_a_schedule, shift=shifts, seed=st.integers(0, 99))
def test_a_refused_draft_is_refined_along_the_flow_map(steps: int, shift: float, seed: int) -> None:
    states = run(curved, SamplerState.start(noise(seed)), draft_sigmas(steps, shift), NEVER)
    levels = flow_sigmas(steps, shift)
    expected = list(flow_map(curved, SamplerState.start(noise(seed)), (1.0, *levels[steps // 2 :])))
    assert [state.step for state in states] == list(range(1, 3 + steps // 2))
    assert not any(state.done for state in states)
    for state, there in zip(states[1:], expected, strict=True):
        assert torch.equal(state.latents, there.latents)
        assert state.denoised is not None and there.denoised is not None
        assert torch.equal(state.denoised, there.denoised)


@settings(deadline=None, max_examples=10)
@given(steps=steps_of_a_schedule, shift=shifts, seed=st.integers(0, 99), threshold=st.sampled_from([NEVER, 1.0]))
def test_resumed_at_any_step_is_never_stopped(steps: int, shift: float, seed: int, threshold: float) -> None:
    sigmas = draft_sigmas(steps, shift)
    whole = run(curved, SamplerState.start(noise(seed), seed), sigmas, threshold)
    for number, stop in enumerate(whole, 1):
        rest = run(curved, SamplerState.from_tensors(stop.to_tensors()), sigmas, threshold)
        assert len(rest) == len(whole) - number
        assert all(same_bits(a, b) for a, b in zip(rest, whole[number:], strict=True))


@settings(deadline=None, max_examples=20)
@given(bend=st.floats(0.01, 0.9), seed=st.integers(0, 99))
def test_the_threshold_is_the_share_by_which_the_velocities_differ(bend: float, seed: int) -> None:
    """Half a jump whose velocity is off by `bend` of its length, at right angles."""
    along, across = noise(seed), noise(seed + 1000)
    across -= along * (across * along).sum() / along.square().sum()
    across *= bend * torch.linalg.vector_norm(along) / torch.linalg.vector_norm(across)

    def bent(x: Tensor, t: float, r: float) -> Tensor:
        return along if r == 0.0 else along + across

    for threshold, accepted in ((bend * 1.001, True), (bend * 0.999, False)):
        first, second, *_ = run(bent, SamplerState.start(noise(3)), draft_sigmas(4), threshold)
        assert second.done == accepted
        assert second.done == (first.denoised is not None and torch.equal(second.latents, first.denoised))


@pytest.mark.parametrize(("threshold", "calls"), [(1.0, 2), (NEVER, 4)])
def test_four_steps_cost_two_forwards_or_four(threshold: float, calls: int) -> None:
    made: list[tuple[float, float]] = []

    def watched(x: Tensor, t: float, r: float) -> Tensor:
        made.append((t, r))
        return curved(x, t, r)

    run(watched, SamplerState.start(noise(0)), draft_sigmas(4), threshold)
    assert made == [(1.0, 0.0), (1.0, 0.5), (0.5, 0.25), (0.25, 0.0)][:calls]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_keeps_the_type_and_previews_every_step(dtype: torch.dtype) -> None:
    start = SamplerState.start(noise(0).to(dtype))
    for state in run(lambda x, t, r: curved(x, t, r).float(), start, draft_sigmas(4), NEVER):
        assert state.denoised is not None
        assert state.latents.dtype == state.denoised.dtype == dtype


@pytest.mark.parametrize("steps", [0, 1, 3, -2])
def test_refuses_a_number_of_steps_without_halves(steps: int) -> None:
    with pytest.raises(ValueError, match=f"num_inference_steps: must be even and 2 or more, got {steps}"):
        draft_sigmas(steps)


def test_refuses_levels_of_another_sampler_and_steps_beyond_them() -> None:
    start = SamplerState.start(noise(0))
    with pytest.raises(ValueError, match=r"sigmas: must run from 1\.0 down to 0\.0"):
        run(curved, start, flow_sigmas(4), 0.5)
    with pytest.raises(ValueError, match=r"sigmas: must begin with 1\.0 twice"):
        run(curved, start, (0.5, 1.0, 0.5, 0.0), 0.5)
    with pytest.raises(ValueError, match="step: must be from 0 to 3"):
        run(curved, SamplerState(start.latents, step=5), draft_sigmas(4), 0.5)

"""What holds for every sampler, whatever the model."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from curved_flow import curved, noise, same_bits
from videosvc_samplers import SAMPLERS, SamplerState, consistency, flow_sigmas, get_sampler
from videosvc_samplers.state import Denoiser

every_sampler = pytest.mark.parametrize("name", SAMPLERS)


def run(name: str, denoiser: Denoiser, start: SamplerState, sigmas: tuple[float, ...]) -> list[SamplerState]:
    return list(get_sampler(name)(denoiser, start, sigmas))


@every_sampler
@settings(deadline=None, max_examples=10)
@given(steps=st.integers(1, 12), shift=st.floats(0.5, 8.0), seed=st.integers(0, 99))
def test_a_straight_line_is_followed_to_its_end(name: str, steps: int, shift: float, seed: int) -> None:
    clean, first = noise(seed + 1000), noise(seed)
    sigmas = flow_sigmas(steps, shift)
    states = run(name, lambda x, t, r: (x - clean) / t, SamplerState.start(first, seed), sigmas)
    # float32, and UniPC starts at 1 - 1e-6.
    torch.testing.assert_close(states[-1].latents, clean, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["flow_map", "euler", "unipc"])
@settings(deadline=None, max_examples=10)
@given(steps=st.integers(1, 12), shift=st.floats(0.5, 8.0), seed=st.integers(0, 99))
def test_a_constant_velocity_is_integrated_exactly(name: str, steps: int, shift: float, seed: int) -> None:
    clean, first = noise(seed + 1000), noise(seed)
    sigmas = flow_sigmas(steps, shift)
    for state in run(name, lambda x, t, r: first - clean, SamplerState.start(first), sigmas):
        t = sigmas[state.step]
        torch.testing.assert_close(state.latents, (1 - t) * clean + t * first, rtol=0, atol=2e-5)


@every_sampler
@settings(deadline=None, max_examples=8)
@given(steps=st.integers(1, 9), shift=st.floats(0.5, 8.0), seed=st.integers(0, 99))
def test_resumed_at_any_step_is_never_stopped(name: str, steps: int, shift: float, seed: int) -> None:
    sigmas = flow_sigmas(steps, shift)
    whole = run(name, curved, SamplerState.start(noise(seed), seed), sigmas)
    for stop in whole:
        for kept in (stop, SamplerState.from_tensors(stop.to_tensors())):
            rest = run(name, curved, kept, sigmas)
            assert len(rest) == steps - stop.step
            assert all(same_bits(a, b) for a, b in zip(rest, whole[stop.step :], strict=True))


@every_sampler
def test_states_are_not_written_to_by_later_steps(name: str) -> None:
    first = noise(0)
    kept = []
    for state in get_sampler(name)(curved, SamplerState.start(first, 0), flow_sigmas(6)):
        kept.append((state, SamplerState.from_tensors(state.to_tensors())))
    assert all(same_bits(state, copy) for state, copy in kept)
    assert torch.equal(first, noise(0))


@every_sampler
def test_two_runs_in_turns_do_not_disturb_each_other(name: str) -> None:
    starts = [SamplerState.start(noise(seed), seed) for seed in (1, 2)]
    alone = [run(name, curved, start, flow_sigmas(5)) for start in starts]
    in_turns = zip(*(get_sampler(name)(curved, start, flow_sigmas(5)) for start in starts), strict=True)
    for pair, expected in zip(in_turns, zip(*alone, strict=True), strict=True):
        assert all(same_bits(a, b) for a, b in zip(pair, expected, strict=True))


@every_sampler
def test_lands_early_when_the_levels_left_are_cut_short(name: str) -> None:
    """A run short of compute keeps its steps so far and goes to the clean end in one more."""
    sigmas = flow_sigmas(8)
    whole = run(name, curved, SamplerState.start(noise(0), 0), sigmas)
    stop = whole[3]
    (landed,) = run(name, curved, stop, (*sigmas[: stop.step + 1], 0.0))
    assert landed.denoised is not None
    torch.testing.assert_close(landed.latents, landed.denoised)
    assert (landed.latents - whole[-1].latents).abs().mean() < (stop.latents - whole[-1].latents).abs().mean()


@every_sampler
def test_another_sampler_can_take_over(name: str) -> None:
    for before in SAMPLERS:
        stop = run(before, curved, SamplerState.start(noise(0), 0), flow_sigmas(4))[1]
        states = run(name, curved, SamplerState(stop.latents, stop.step, rng=stop.rng), flow_sigmas(4))
        assert [state.step for state in states] == [3, 4]


@every_sampler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_each_step_has_a_preview_of_the_clean_end(name: str, dtype: torch.dtype) -> None:
    clean, first = noise(1).to(dtype), noise(0).to(dtype)
    sigmas = flow_sigmas(5)
    atol = 0.1 if dtype == torch.bfloat16 else 2e-5
    states = run(name, lambda x, t, r: ((x - clean) / t).float(), SamplerState.start(first, 0), sigmas)
    assert [state.step for state in states] == [1, 2, 3, 4, 5]
    for state in states:
        assert state.denoised is not None
        assert state.denoised.dtype == state.latents.dtype == dtype
        torch.testing.assert_close(state.denoised, clean, rtol=0, atol=atol)


@every_sampler
def test_calls_the_model_once_a_step_at_that_steps_level(name: str) -> None:
    sigmas = flow_sigmas(4, shift=3.0)
    calls: list[tuple[float, float]] = []

    def watched(x: Tensor, t: float, r: float) -> Tensor:
        calls.append((t, r))
        return curved(x, t, r)

    run(name, watched, SamplerState.start(noise(0), 0), sigmas)
    ends = {"flow_map": sigmas[1:], "consistency": (0.0,) * 4}.get(name, sigmas[:-1])
    assert calls == list(zip(sigmas[:-1], ends, strict=True))


@every_sampler
def test_a_finished_run_has_no_steps_left(name: str) -> None:
    last = run(name, curved, SamplerState.start(noise(0), 0), flow_sigmas(3))[-1]
    assert run(name, curved, last, flow_sigmas(3)) == []


@every_sampler
def test_refuses_levels_that_do_not_fall_and_steps_beyond_them(name: str) -> None:
    start = SamplerState.start(noise(0), 0)
    with pytest.raises(ValueError, match="sigmas: must fall strictly"):
        run(name, curved, start, (1.0, 0.4, 0.6, 0.0))
    with pytest.raises(ValueError, match="step: must be from 0 to 2"):
        run(name, curved, SamplerState(start.latents, step=3, rng=start.rng), flow_sigmas(2))


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32), steps=st.integers(2, 6))
def test_consistency_follows_its_seed_and_no_other(seed: int, steps: int) -> None:
    sigmas = flow_sigmas(steps)
    once, again, other = (
        list(consistency(curved, SamplerState.start(noise(0), s), sigmas))[-1] for s in (seed, seed, seed + 1)
    )
    assert same_bits(once, again)
    assert not torch.equal(once.latents, other.latents)


def test_consistency_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    list(consistency(curved, SamplerState.start(noise(0), 1), flow_sigmas(4)))
    assert torch.equal(before, torch.get_rng_state())


def test_consistency_asks_for_a_seed() -> None:
    with pytest.raises(ValueError, match="consistency: needs a seed"):
        run("consistency", curved, SamplerState.start(noise(0)), flow_sigmas(2))


def test_unipc_refuses_levels_it_cannot_tell_apart() -> None:
    with pytest.raises(ValueError, match="unipc: sigmas: levels lie too close together"):
        run("unipc", curved, SamplerState.start(noise(0)), flow_sigmas(1000, 2000.0))

"""Draft and verify: one jump, taken if half a jump agrees with it, and refined if not.

In the spirit of speculative decoding ("Fast Inference from Transformers via Speculative Decoding", arXiv 2211.17192),
though nothing is drawn here and what is accepted is an approximation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from videosvc_samplers.flow_map import flow_map
from videosvc_samplers.schedule import check_sigmas, flow_sigmas
from videosvc_samplers.state import Denoiser, SamplerState


def draft_sigmas(num_inference_steps: int, shift: float = 1.0) -> tuple[float, ...]:
    """The noise level before each forward, and 0.0: draft and half-jump, both at 1.0, then the schedule's second half.

    Raises ValueError unless the number of steps is even and 2 or more.
    """
    if num_inference_steps < 2 or num_inference_steps % 2:
        raise ValueError(f"num_inference_steps: must be even and 2 or more, got {num_inference_steps}")
    return (1.0, 1.0, *flow_sigmas(num_inference_steps, shift)[num_inference_steps // 2 :])


def draft(
    denoiser: Denoiser, state: SamplerState, sigmas: tuple[float, ...], threshold: float
) -> Iterator[SamplerState]:
    """Yield the state after each forward of a flow map; `sigmas`: see `draft_sigmas`, m being the third.

    Forward 1 drafts the clean end with u(1, 0), the mean velocity all the way; forward 2 jumps to m with u(1, m).
    Their disagreement is |u(1, m) - u(1, 0)| / |u(1, 0)|, norms over the whole batch: 0 if the flow is straight. At
    most `threshold`: the draft is the result, and the state says `done`. Else that jump was the first one of
    `flow_map` by way of m. Raises ValueError on sigmas it cannot follow.
    """
    check_sigmas(sigmas[1:], max(0, state.step - 1))
    if sigmas[0] != 1.0:
        raise ValueError(f"sigmas: must begin with 1.0 twice, got {sigmas}")
    if state.done:
        return
    noise = state.latents
    if state.step == 0:
        state = state.advance(noise, denoised=noise - denoiser(noise, 1.0, 0.0).to(noise.dtype))
        yield state
    if state.step == 1:
        assert state.denoised is not None
        drafted, middle = noise - state.denoised, sigmas[2]
        velocity = denoiser(noise, 1.0, middle).to(noise.dtype)
        apart, whole = (torch.linalg.vector_norm(v, dtype=torch.float64) for v in (velocity - drafted, drafted))
        if apart <= threshold * whole:
            state = replace(state.advance(state.denoised, denoised=state.denoised), done=True)
        else:
            state = state.advance(noise - (1.0 - middle) * velocity, denoised=noise - velocity)
        yield state
    if not state.done:
        # A flow map's run whose first jump is behind it.
        for later in flow_map(denoiser, replace(state, step=state.step - 1), sigmas[1:]):
            yield replace(later, step=later.step + 1)

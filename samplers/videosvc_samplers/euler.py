"""Euler steps along the instantaneous velocity: the plain solver for any flow model."""

from __future__ import annotations

from collections.abc import Iterator

from videosvc_samplers.schedule import check_sigmas
from videosvc_samplers.state import Denoiser, SamplerState


def euler(denoiser: Denoiser, state: SamplerState, sigmas: tuple[float, ...]) -> Iterator[SamplerState]:
    """Yield the state after each step; first order, one forward a step.

    "Flow Straight and Fast", arXiv 2209.03003, section 2. Raises ValueError on sigmas it cannot follow.
    """
    check_sigmas(sigmas, state.step)
    for t, r in zip(sigmas[state.step :], sigmas[state.step + 1 :], strict=False):
        x = state.latents
        velocity = denoiser(x, t, t).to(x.dtype)
        state = state.advance(latents=x - (t - r) * velocity, denoised=x - t * velocity)
        yield state

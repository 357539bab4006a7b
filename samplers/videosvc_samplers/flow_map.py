"""Jumps along the mean velocity: few steps, and from anywhere to anywhere, with a model distilled for it."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from videosvc_samplers.schedule import check_sigmas
from videosvc_samplers.state import Denoiser, SamplerState


def jump(denoiser: Denoiser, x: Tensor, t: float, r: float) -> Tensor:
    """Take `x`, (B, C, T, H, W) at noise level t, to level r in one forward; r = 0 lands on the clean end.

    "Flow Map Matching", arXiv 2406.07507; mean velocity as in "Mean Flows", arXiv 2505.13447, eq. 12.
    """
    return x - (t - r) * denoiser(x, t, r).to(x.dtype)


def land(denoiser: Denoiser, state: SamplerState, sigma: float) -> Iterator[SamplerState]:
    """Yield the state after one jump from its noise level, `sigma`, to the clean end: a run cut short."""
    latents = jump(denoiser, state.latents, sigma, 0.0)
    yield state.advance(latents, denoised=latents)


def flow_map(denoiser: Denoiser, state: SamplerState, sigmas: tuple[float, ...]) -> Iterator[SamplerState]:
    """Yield the state after each jump; an exact flow map gives the exact end whatever the number of steps.

    `denoised` prolongs the jump to the clean end in a straight line, which saves a preview its own forward
    and is exact at the last step. Papers: see `jump`. Raises ValueError on sigmas it cannot follow.
    """
    check_sigmas(sigmas, state.step)
    for t, r in zip(sigmas[state.step :], sigmas[state.step + 1 :], strict=False):
        x = state.latents
        velocity = denoiser(x, t, r).to(x.dtype)
        state = state.advance(latents=x - (t - r) * velocity, denoised=x - t * velocity)
        yield state

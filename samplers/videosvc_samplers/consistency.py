"""Jump to the clean end, put fresh noise back, repeat: the sampler of consistency models, for flows."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from videosvc_samplers.schedule import check_sigmas
from videosvc_samplers.state import Denoiser, SamplerState


def consistency(denoiser: Denoiser, state: SamplerState, sigmas: tuple[float, ...]) -> Iterator[SamplerState]:
    """Yield the state after each step; stochastic, one forward a step.

    "Consistency Models", arXiv 2303.01469, algorithm 1, with the flow's noising in place of the EDM one;
    latents first in "Latent Consistency Models", arXiv 2310.04378.
    Raises ValueError on a state without a seed or on sigmas it cannot follow.
    """
    check_sigmas(sigmas, state.step)
    if state.rng is None:
        raise ValueError("consistency: needs a seed, start with SamplerState.start(latents, seed)")
    # Drawn on the CPU in float32, then moved: a seed gives the same noise on every device and precision.
    generator = torch.Generator()
    generator.set_state(state.rng)
    for t, r in zip(sigmas[state.step :], sigmas[state.step + 1 :], strict=False):
        x = state.latents
        clean = x - t * denoiser(x, t, 0.0).to(x.dtype)
        if r > 0:
            noise = torch.randn(x.shape, generator=generator).to(x)
            state = state.advance((1 - r) * clean + r * noise, denoised=clean, rng=generator.get_state())
        else:
            state = state.advance(clean, denoised=clean)
        yield state

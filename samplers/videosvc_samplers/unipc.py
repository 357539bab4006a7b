"""UniPC: second-order predictor-corrector steps, for models of many steps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from videosvc_samplers.schedule import check_sigmas
from videosvc_samplers.state import Denoiser, SamplerState

ORDER = 2


def unipc(denoiser: Denoiser, state: SamplerState, sigmas: tuple[float, ...]) -> Iterator[SamplerState]:
    """Yield the state after each step; second order, one forward a step.

    "UniPC", arXiv 2302.04867, with B2(h) = exp(h) - 1 and data prediction; the arithmetic is diffusers'.
    Its memory goes in `history`: the corrected sample of the last step, then up to `ORDER` estimates of x0,
    oldest first. A state without history starts a warm-up at whatever step it is.
    Raises ValueError on sigmas it cannot follow.
    """
    # Here, since importing diffusers costs seconds that the other samplers need not pay.
    from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

    check_sigmas(sigmas, state.step)
    solver = UniPCMultistepScheduler(
        solver_order=ORDER, prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0
    )
    # The solver starts at 1 - 1e-6, where its log-SNR is finite, and keeps float32: closer levels collapse.
    solver.set_timesteps(sigmas=np.array(sigmas[:-1]))
    if not bool((solver.sigmas.diff() < 0).all()):
        raise ValueError("unipc: sigmas: levels lie too close together, take fewer steps or a smaller shift")
    solver.set_begin_index(state.step)
    if state.history:
        solver.last_sample, *estimates = state.history
        solver.model_outputs[-len(estimates) :] = estimates
        # With order 2 the step before was of the order its estimates allowed: only the very last is lowered.
        solver.lower_order_nums = solver.this_order = len(estimates)

    for t, timestep in zip(sigmas[state.step : -1], solver.timesteps[state.step :], strict=True):
        x = state.latents
        velocity = denoiser(x, t, t).to(x.dtype)
        (latents,) = solver.step(velocity, timestep, x, return_dict=False)
        estimates = [estimate for estimate in solver.model_outputs if estimate is not None]
        state = state.advance(latents, denoised=estimates[-1], history=(solver.last_sample, *estimates))
        yield state

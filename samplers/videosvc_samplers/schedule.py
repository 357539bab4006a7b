"""Noise levels of a run: the times t at which a flow is evaluated, from 1.0 (noise) down to 0.0 (clean)."""

from __future__ import annotations

import math
from itertools import pairwise


def flow_sigmas(num_inference_steps: int, shift: float = 1.0) -> tuple[float, ...]:
    """Give `num_inference_steps + 1` noise levels, strictly falling from 1.0 to 0.0.

    `shift` above 1 spends more of the steps on the noisy end, as larger frames need
    ("Scaling Rectified Flow Transformers", arXiv 2403.03206, section 5.3.2; Wan takes 3 at 480p, 5 at 720p).
    Raises ValueError when the number of steps or the shift cannot be used.
    """
    if num_inference_steps < 1:
        raise ValueError(f"num_inference_steps: must be 1 or more, got {num_inference_steps}")
    if not (math.isfinite(shift) and shift > 0):
        raise ValueError(f"shift: must be finite and above 0, got {shift}")
    evenly = (1 - i / num_inference_steps for i in range(num_inference_steps + 1))
    # s*x / (1 + (s-1)*x), the divisor written as a sum of positive parts: both ends are exact for any shift.
    sigmas = tuple(shift * x / (shift * x + (1 - x)) for x in evenly)
    check_sigmas(sigmas)
    return sigmas


def check_sigmas(sigmas: tuple[float, ...], step: int = 0) -> None:
    """Raise ValueError unless `sigmas` falls strictly from 1.0 to 0.0 and `step` is one of its indices."""
    if len(sigmas) < 2 or sigmas[0] != 1.0 or sigmas[-1] != 0.0:
        raise ValueError(f"sigmas: must run from 1.0 down to 0.0, got {sigmas}")
    for i, (t, r) in enumerate(pairwise(sigmas)):
        if not t > r:
            raise ValueError(f"sigmas: must fall strictly, but sigmas[{i}] = {t} is followed by {r}")
    if not 0 <= step < len(sigmas):
        raise ValueError(f"step: must be from 0 to {len(sigmas) - 1} for these sigmas, got {step}")

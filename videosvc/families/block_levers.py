"""The levers on a transformer's blocks that are pulled when it is loaded: low-bit weights and compiled code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videosvc.config.levers import refusal
from videosvc.errors import ModelError
from videosvc.families.compiled_blocks import compile_blocks, compile_refusal
from videosvc.families.load_levers import LoadLevers
from videosvc.families.low_bit_weights import LAYERS, TOLERANCES, quantize_blocks
from videosvc_kernels import bfloat16_refusal, failure_of, fp8_refusal, int8_refusal, triton_refusal

FUSED_CAPABILITY = (8, 0)  # has the shared memory for them


def check_levers(model: str, family: str, levers: LoadLevers, device: torch.device) -> None:
    """Raises ModelError naming the lever that `family` or `device` cannot take, and why; before anything is loaded."""
    line = refusal(family, "weights", levers.weights)
    refusals: dict[str, Callable[[torch.device], str | None]]
    refusals = {"bf16": bfloat16_refusal, "int8": int8_refusal, "fp8": fp8_refusal}
    if line is None and levers.weights in refusals and (reason := refusals[levers.weights](device)):
        line = f"lever weights={levers.weights!r} cannot be: {reason}"
    if line is None and levers.compile and (reason := compile_refusal(device)):
        line = f"lever compile=true cannot be: {reason}"
    if line is not None:
        raise ModelError(f"model {model!r}: {line}", param="levers")


def pull_levers(
    model: str,
    transformer: Any,
    levers: LoadLevers,
    trial: Callable[[], Tensor],
    warm_up: Callable[[], None],
    model_hash: str,
    stamp: str,
    kept: Path | None,
) -> None:
    """`trial`: velocities, the same at every call; `warm_up`: everything to compile for; the rest: `quantize_blocks`.

    Raises ModelError if a lever cannot be after all.
    """
    if levers.weights in LAYERS and not quantize_blocks(transformer, levers.weights, trial, model_hash, stamp, kept):
        reason = f"no layer stands it within {TOLERANCES[levers.weights]:.0%}"
        raise ModelError(f"model {model!r}: lever weights={levers.weights!r} cannot be: {reason}", param="levers")
    if levers.weights == "int8" and fused_refusal(transformer.device) is None:
        from videosvc.families.fused_block import fuse_blocks

        if fuse_blocks(transformer) and (failure := failure_of(trial)):
            raise ModelError(f"model {model!r}: lever weights='int8' cannot be: {failure}", param="levers")
    if levers.compile:
        try:
            compile_blocks(transformer, warm_up)
        except RuntimeError as error:  # of the compiler it may be many lines
            reason = str(error).strip().splitlines()[0]
            raise ModelError(f"model {model!r}: lever compile=true cannot be: {reason}", param="levers") from error
    elif transformer.device.type == "cpu":
        from videosvc.families.lean_block import lighten_blocks

        lighten_blocks(transformer)


def fused_refusal(device: torch.device) -> str | None:
    """Why int8 blocks are not fused on `device`, in one line; None if they are, in a family that has such blocks."""
    reason = triton_refusal(device)
    if reason is None and (capability := torch.cuda.get_device_capability(device)) < FUSED_CAPABILITY:
        own, needed = (".".join(map(str, version)) for version in (capability, FUSED_CAPABILITY))
        return f"{device} has compute capability {own}, fused blocks need {needed}"
    return reason

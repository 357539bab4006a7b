"""The levers on a transformer's blocks that are pulled when it is loaded: low-bit weights and compiled code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._triton import has_triton

from videosvc.config.levers import refusal
from videosvc.errors import ModelError
from videosvc.families.compiled_blocks import compile_blocks, compile_refusal
from videosvc.families.load_levers import LoadLevers
from videosvc.families.low_bit_weights import LAYERS, TOLERANCES, quantize_blocks
from videosvc_kernels import bfloat16_refusal, fp8_refusal, int8_refusal

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
    kept: Path | None,
) -> None:
    """`trial`: velocities, the same at every call; `warm_up`: everything to compile for; `kept`: see `quantize_blocks`.

    Raises ModelError if a lever cannot be after all.
    """
    if levers.weights in LAYERS and not quantize_blocks(transformer, levers.weights, trial, model_hash, kept):
        reason = f"no layer stands it within {TOLERANCES[levers.weights]:.0%}"
        raise ModelError(f"model {model!r}: lever weights={levers.weights!r} cannot be: {reason}", param="levers")
    if levers.weights == "int8" and _fuses(transformer.device):
        from videosvc.families.fused_block import fuse_blocks

        fuse_blocks(transformer)
    if levers.compile:
        try:
            compile_blocks(transformer, warm_up)
        except RuntimeError as error:  # of the compiler it may be many lines
            reason = str(error).strip().splitlines()[0]
            raise ModelError(f"model {model!r}: lever compile=true cannot be: {reason}", param="levers") from error


def _fuses(device: torch.device) -> bool:
    """Whether `device` is one that the fused blocks' kernels are made for."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= FUSED_CAPABILITY and has_triton()

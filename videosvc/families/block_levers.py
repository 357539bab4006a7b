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
from videosvc.families.int8_weights import TOLERANCE, quantize_blocks
from videosvc.families.load_levers import LoadLevers
from videosvc_kernels import bfloat16_refusal, int8_refusal


def check_levers(model: str, family: str, levers: LoadLevers, device: torch.device) -> None:
    """Raises ModelError naming the lever that `family` or `device` cannot take, and why; before anything is loaded."""
    line = refusal(family, "weights", levers.weights)
    if line is None and levers.weights == "bf16" and (reason := bfloat16_refusal(device)):
        line = f"lever weights='bf16' cannot be: {reason}"
    if line is None and levers.weights == "int8" and (reason := int8_refusal(device)):
        line = f"lever weights='int8' cannot be: {reason}"
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
    if levers.weights == "int8" and not quantize_blocks(transformer, trial, model_hash, kept):
        message = f"model {model!r}: lever weights='int8' cannot be: no layer stands it within {TOLERANCE:.0%}"
        raise ModelError(message, param="levers")
    if levers.compile:
        try:
            compile_blocks(transformer, warm_up)
        except RuntimeError as error:  # of the compiler it may be many lines
            reason = str(error).strip().splitlines()[0]
            raise ModelError(f"model {model!r}: lever compile=true cannot be: {reason}", param="levers") from error

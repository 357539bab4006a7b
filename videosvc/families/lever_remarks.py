"""Levers that a device takes and gains little or nothing by: what to say beside "supported"."""

from __future__ import annotations

import torch

from videosvc.families.block_levers import fused_refusal
from videosvc.families.low_bit_weights import storage_only
from videosvc_kernels import triton_refusal


def lever_remark(family: str, lever: str, value: str, device: torch.device) -> str | None:
    """What `lever` does not do on `device`, and why, in one line; None if it does all it can."""
    if lever == "weights" and (saved := storage_only(value, device)):
        return saved
    if device.type != "cuda":
        return None
    if (lever, value) == ("weights", "bf16"):
        return "does nothing here: native is bfloat16 on a GPU"
    if (lever, value) == ("weights", "int8") and (reason := triton_refusal(device)):
        return f"quantises and multiplies in steps of their own, which is slower: {reason}"
    if lever == "frame_cache" and value in ("int8", "int4") and (reason := triton_refusal(device)):
        return f"is decoded a block at a time, which is slower: {reason}"
    if (lever, value, family) == ("compile", "true", "anyflow_far") and fused_refusal(device) is None:
        return "does nothing here beside weights='int8', whose blocks are fused already"
    return None

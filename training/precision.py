"""What training computes in: bfloat16 where the device multiplies such numbers, float32 where it only emulates them."""

from __future__ import annotations

import torch

from videosvc_kernels import bfloat16_refusal


def mixed_precision(device: torch.device | str) -> torch.autocast:
    """A context for forwards; weights and losses stay in float32."""
    device = torch.device(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_refusal(device) is None)

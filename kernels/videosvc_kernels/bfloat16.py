"""Whether a device multiplies bfloat16 numbers, or only seems to."""

from __future__ import annotations

import torch

INSTRUCTIONS = ("avx512_bf16", "amx_bf16")


def bfloat16_refusal(device: torch.device) -> str | None:
    """Why bfloat16 is no gain on `device`, in one line; None if it may be one."""
    if device.type != "cpu":
        return None
    can = torch.cpu.get_capabilities()
    if can["architecture"] != "x86_64" or any(can.get(name) for name in INSTRUCTIONS):
        return None
    return f"this CPU has neither {' nor '.join(INSTRUCTIONS)}, and emulates such numbers more slowly than float32"

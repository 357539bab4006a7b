"""A GPU that a process has lost: after a fault in a kernel all that it does there fails, until it ends."""

from __future__ import annotations

import torch


def is_broken(device: torch.device) -> bool:
    """Waits for what the device still does."""
    if device.type != "cuda":
        return False
    try:
        torch.cuda.synchronize(device)
    except RuntimeError:
        return True
    return False

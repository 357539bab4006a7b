"""What a device is called, in receipts, prices and file names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def device_label(device: torch.device) -> str:
    """The name a device has in receipts, prices and calibrations."""
    if device.type != "cuda":
        return device.type
    import torch

    return torch.cuda.get_device_name(device)


def file_part(label: str) -> str:
    """The same, as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")

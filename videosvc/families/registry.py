"""From a configured model to a loaded one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from videosvc.errors import ModelError

if TYPE_CHECKING:
    from videosvc.config.models import ModelEntry
    from videosvc.families.base import Family


def load_family(
    entry: ModelEntry,
    device: torch.device,
    dtype: torch.dtype,
    weights: str = "native",
    quantized: Path | None = None,
    compiled: bool = False,
) -> Family:
    """Loads `entry`'s checkpoint. `weights`, `compiled`: levers; `quantized`: a folder to keep quantised weights in.

    Raises ModelError naming what is wrong with it, or why the lever cannot be.
    """
    if entry.family == "anyflow_far":
        from videosvc.families.anyflow_far import AnyFlowFAR  # here: it pulls in diffusers and transformers

        return AnyFlowFAR(
            entry.name, entry.folder(), entry.window_chunks, device, dtype, weights, quantized, compiled
        )
    raise ModelError(
        f"model {entry.name!r}: family {entry.family!r} is not one of anyflow_far", param="model"
    )

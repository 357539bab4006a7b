"""From a configured model to a loaded one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from videosvc.errors import ModelError
from videosvc.families.load_levers import NO_LEVERS, LoadLevers

if TYPE_CHECKING:
    from videosvc.config.models import ModelEntry
    from videosvc.families.base import Family


def load_family(
    entry: ModelEntry,
    device: torch.device,
    dtype: torch.dtype,
    levers: LoadLevers = NO_LEVERS,
    kept: Path | None = None,
) -> Family:
    """Loads `entry`'s checkpoint. `kept`: a folder of quantised weights, and of what was measured of attention.

    Raises ModelError naming what is wrong with it, or why the lever cannot be.
    """
    if entry.family == "anyflow_far":
        from videosvc.families.anyflow_far import AnyFlowFAR  # here: it pulls in diffusers and transformers

        return AnyFlowFAR(
            entry.name,
            entry.folder(),
            entry.window_chunks,
            device,
            dtype,
            levers,
            kept,
            sink_chunks=entry.sink_chunks,
            offload=entry.offload,
        )
    if entry.family == "wan":
        from videosvc.families.attention_choice import chosen
        from videosvc.families.device_label import device_label
        from videosvc.families.wan import Wan

        return Wan(
            entry.name,
            entry.folder(),
            device,
            dtype,
            levers,
            kept,
            attention=chosen(entry.attention, kept, entry.name, device_label(device)),
            offload=entry.offload,
            mag_ratios=entry.mag_ratios,
        )
    raise ModelError(f"model {entry.name!r}: family {entry.family!r} is not one of anyflow_far, wan", param="model")

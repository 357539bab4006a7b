"""Which levers a device cannot take: the API is told, and refuses them at once."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

from videosvc.config.levers import AVAILABLE, LEVERS
from videosvc.errors import ModelError
from videosvc.families.far_checks import far_head_dim
from videosvc.families.load_levers import LoadLevers

if TYPE_CHECKING:
    import torch

    from videosvc.config.models import ModelEntry


def refused_levers(device: torch.device, models: Iterable[ModelEntry]) -> dict[str, str]:
    """Reasons, in one line each, by lever: "weights=int8", "compile=true".

    Of frame caches by model too, "toyworld frame_cache=int8", as they depend on its heads; of those on this machine.
    """
    from videosvc.families.block_levers import check_levers

    trials = {f"weights={value}": LoadLevers(value) for value in LEVERS["weights"]}
    refused: dict[str, str] = {}
    for name, levers in (trials | {"compile=true": LoadLevers(compile=True)}).items():
        try:
            check_levers("any", "anyflow_far", levers, device)  # a family that takes them all
        except ModelError as refusal:
            refused[name] = refusal.message.removeprefix("model 'any': ")
    return refused | _refused_caches(device, models)


def _refused_caches(device: torch.device, models: Iterable[ModelEntry]) -> dict[str, str]:
    import torch

    from videosvc.families.far_codecs import codec_refusal

    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    trial = cache(lambda codec, head_dim: codec_refusal(codec, head_dim, device, dtype))
    refused: dict[str, str] = {}
    for entry in models:
        folder = entry.folder_here() if entry.family == "anyflow_far" else None
        if folder is None:
            continue
        with suppress(ModelError):  # it is damaged, of which its jobs will hear
            head_dim = far_head_dim(entry.name, folder)
            for codec in AVAILABLE["anyflow_far"]["frame_cache"]:
                if reason := trial(codec, head_dim):
                    refused[f"{entry.name} frame_cache={codec}"] = reason
    return refused

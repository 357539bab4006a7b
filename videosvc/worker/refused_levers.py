"""Which levers of loading a device cannot take, whatever the model: the API is told, and refuses them at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from videosvc.config.levers import LEVERS
from videosvc.errors import ModelError
from videosvc.families.load_levers import LoadLevers

if TYPE_CHECKING:
    import torch


def refused_levers(device: torch.device) -> dict[str, str]:
    """By lever, as "weights=int8" or "compile=true": the reason, in one line."""
    from videosvc.families.block_levers import check_levers

    trials = {f"weights={value}": LoadLevers(value) for value in LEVERS["weights"]}
    refused: dict[str, str] = {}
    for name, levers in (trials | {"compile=true": LoadLevers(compile=True)}).items():
        try:
            check_levers("any", "anyflow_far", levers, device)  # a family that takes them all
        except ModelError as refusal:
            refused[name] = refusal.message.removeprefix("model 'any': ")
    return refused

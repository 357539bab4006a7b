"""What the levers come to on the device in the settings, for the commands that check files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from videosvc.config.settings import config_dir, load_settings
from videosvc.engine.loading import pick_device
from videosvc.errors import ModelError
from videosvc.families.load_levers import NO_LEVERS, LoadLevers

if TYPE_CHECKING:
    import torch


def refused_here(model: str, family: str, levers: LoadLevers) -> str | None:
    """Why this device cannot take `levers`, though `family` can, in one line; None if it can.

    Raises ConfigError if there is no such device.
    """
    if levers == NO_LEVERS:  # which is true everywhere, and torch takes seconds to import
        return None
    from videosvc.families.block_levers import check_levers

    try:
        check_levers(model, family, levers, _device())
    except ModelError as error:
        return error.message.removeprefix(f"model {model!r}: ")
    return None


def loading_here() -> dict[str, str | None]:
    """By setting of models.toml for family wan: why it cannot be on this device; None if it can."""
    from videosvc.families.attention_backend import BACKENDS, attention_refusal
    from videosvc.families.offload import OFFLOADED, offload_refusal

    device = _device()
    attention = {f"attention={name!r}": attention_refusal(name, device) for name in BACKENDS}
    return attention | {f"offload={[part]!r}": offload_refusal(part, device) for part in OFFLOADED}


def storage_only_here(weights: str) -> str | None:
    """What the lever `weights` does not save on this device, and why; None if it saves all it can.

    Raises ConfigError if there is no such device.
    """
    if weights != "fp8":  # of the others it is true everywhere
        return None
    from videosvc.families.low_bit_weights import storage_only

    return storage_only(weights, _device())


def _device() -> torch.device:
    return pick_device(load_settings(config_dir()).device)

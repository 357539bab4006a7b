"""What the levers come to on the device in the settings, for the commands that check files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from videosvc.config.models import FamilyName, ModelEntry, idle_settings
from videosvc.config.settings import config_dir, load_settings
from videosvc.engine.loading import pick_device
from videosvc.errors import ModelError
from videosvc.families.far_checks import far_head_dim
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


def model_refused_here(entry: ModelEntry, levers: LoadLevers, frame_cache: str) -> str | None:
    """Why this device cannot run a model with these, in one line; None if it can, as far as can be told from here: a
    checkpoint that is not on this machine is left to the workers.

    Raises ConfigError if there is no such device, ModelError if the model's files are damaged.
    """
    line = refused_here(entry.name, entry.family, levers)
    if line is not None or entry.family != "anyflow_far":
        return line
    folder = entry.folder_here()
    return None if folder is None else cache_refused_here(entry.name, folder, frame_cache)


def loading_here(family: FamilyName, vae: str) -> dict[str, str | None]:
    """By setting of models.toml that `family` heeds: why it cannot be on this device; None if it can.

    `vae`: the autoencoder's class.
    """
    from videosvc.families.attention_backend import BACKENDS, attention_refusal
    from videosvc.families.offload import OFFLOADED, offload_refusal

    device = _device()
    heeded = () if "attention" in idle_settings(family) else BACKENDS
    attention = {f"attention={name!r}": attention_refusal(name, device) for name in heeded}
    return attention | {f"offload={[part]!r}": offload_refusal(part, vae, device) for part in OFFLOADED}


def cache_refused_here(model: str, folder: Path, frame_cache: str) -> str | None:
    """Why this device cannot read a causal model's frame cache kept so, in one line; None if it can.

    Raises ConfigError if there is no such device, ModelError if the model's files are damaged.
    """
    if frame_cache == "native":
        return None
    import torch

    from videosvc.families.far_codecs import codec_refusal

    device = _device()
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    return codec_refusal(frame_cache, far_head_dim(model, folder), device, dtype)


def remark_here(family: str, lever: str, value: str) -> str | None:
    """What a lever does not do on this device though it is taken, and why; None if it does all it can.

    Raises ConfigError if there is no such device.
    """
    if lever not in ("weights", "frame_cache", "compile") or value in ("native", "false"):
        return None  # true everywhere, and torch takes seconds to import
    from videosvc.families.lever_remarks import lever_remark

    return lever_remark(family, lever, value, _device())


def _device() -> torch.device:
    return pick_device(load_settings(config_dir()).device)

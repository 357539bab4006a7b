"""From configuration to a loaded engine. Everything heavy is imported inside."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from videosvc.config.models import ModelEntry
from videosvc.errors import ConfigError
from videosvc.families.load_levers import NO_LEVERS, LoadLevers

if TYPE_CHECKING:
    import torch

    from videosvc.engine.generate import Engine

NVIDIA_DRIVER = Path("/proc/driver/nvidia")


def pick_device(name: str) -> torch.device:
    """`auto` is the first GPU, or the CPU if there is none. Raises ConfigError if there is no such GPU."""
    import torch

    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            allowed = ", ".join(["auto", "cpu", *(f"cuda:{index}" for index in range(count))])
            raise ConfigError(f"VIDEOSVC_DEVICE: there is no {name}; there are {allowed}", param="device")
    return device


def device_name(setting: str) -> str:
    """The name in prices and calibrations of the device that `setting` picks; torch is loaded only if it may be a GPU.

    Raises ConfigError if there is no such GPU.
    """
    if setting == "cpu" or (setting == "auto" and not NVIDIA_DRIVER.exists()):
        return "cpu"
    from videosvc.families.device_label import device_label

    return device_label(pick_device(setting))


def open_engine(
    entry: ModelEntry, device_name: str, levers: LoadLevers = NO_LEVERS, kept: Path | None = None
) -> Engine:
    """Loads the model of `entry`, ready to run.

    `kept`: a folder to keep in what takes long to make: quantised weights, compiled code, attention's measurements.
    Raises ModelError if its files are missing or damaged, also by their checksums where there are any, or a lever
    cannot be.
    """
    import torch
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    from videosvc.engine.generate import Engine
    from videosvc.families.checksums import check_sums
    from videosvc.families.registry import load_family

    for library in (diffusers_logging, transformers_logging):  # our own bar is the only one
        library.disable_progress_bar()
        library.set_verbosity_error()
    device = pick_device(device_name)
    check_sums(entry.name, entry.folder())
    # Of whatever the checkpoint is in. Not every CPU multiplies bfloat16 numbers, so there it is a lever.
    dtype = torch.float32 if device.type == "cpu" and levers.weights != "bf16" else torch.bfloat16
    if levers.compile and kept is not None:
        keep_compiled(kept / "compiled")
    return Engine(load_family(entry, device, dtype, levers, kept))


def keep_compiled(folder: Path) -> None:
    """Has compiled code kept in `folder`, unless the environment named another one from the start.

    torch names one of its own, below /tmp, as soon as its compiler is imported, which loading any model does.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    if os.environ.get("TORCHINDUCTOR_CACHE_DIR") in (None, default_cache_dir()):
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)

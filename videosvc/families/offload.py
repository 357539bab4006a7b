"""A text encoder that is on the GPU only while it encodes: Wan's is larger than its smallest transformer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from videosvc.errors import ModelError

if TYPE_CHECKING:
    from transformers import UMT5EncoderModel

    from videosvc.families.components import Components


def load_offloaded(components: Components, name: str) -> tuple[UMT5EncoderModel, Callable[[], None]]:
    """The encoder, which accelerate's hook moves to the device when it is called, and what moves it back.

    Raises ModelError, also if the device is the CPU.
    """
    from accelerate import cpu_offload_with_hook
    from transformers import UMT5EncoderModel

    if components.device.type == "cpu":
        raise ModelError(f"model {components.model!r}: offload = true needs a GPU to come back from", param="model")
    encoder = replace(components, device=torch.device("cpu")).load(UMT5EncoderModel, name)
    encoder, hook = cpu_offload_with_hook(encoder, components.device)
    return encoder, hook.offload

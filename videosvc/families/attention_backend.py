"""Which kernel a model's attention runs on, chosen model by model through diffusers' dispatcher."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch

from videosvc.config.models import AttentionName
from videosvc.errors import ModelError

# By the name in models.toml: diffusers' name, and whether it has no kernel for a CPU. Those that it would fetch from a
# hub while loading are not here.
BACKENDS: Mapping[str, tuple[str, bool]] = MappingProxyType(
    {
        "native": ("native", False),  # torch picks
        "math": ("_native_math", False),  # products and a softmax, nothing fused: to compare with
        "cudnn": ("_native_cudnn", True),
        "flash": ("flash", True),
        "sage": ("sage", True),  # int8 products: its clips differ a little
        "xformers": ("xformers", True),
    }
)

# Those that calibration tries, of which the first is everywhere. Not math, which is what native is where nothing is
# fused, nor sage: a kernel that changes clips is not chosen for its speed alone.
MEASURED: tuple[AttentionName, ...] = ("native", "cudnn", "flash", "xformers")


def attention_refusal(name: str, device: torch.device) -> str | None:
    """Why `device` has no such kernel, or this machine no package with one, in one line; None if both may have."""
    backend, needs_gpu = BACKENDS[name]
    if not needs_gpu:
        return None
    if device.type != "cuda":
        return f"attention = {name!r} needs a GPU, and this is a {device.type}"
    from diffusers.models.attention_dispatch import AttentionBackendName, _check_attention_backend_requirements

    try:
        _check_attention_backend_requirements(AttentionBackendName(backend))
    except RuntimeError as error:
        return f"attention = {name!r} cannot be: {str(error).strip().splitlines()[0]}"
    return None


def set_attention(model: str, transformer: Any, name: str, device: torch.device) -> None:
    """Makes this transformer, and no other of the process, attend by backend `name`.

    Raises ModelError if the device cannot run it, or its package is missing.
    """
    from diffusers.models.attention_dispatch import AttentionBackendName, attention_backend

    if line := attention_refusal(name, device):
        raise ModelError(f"model {model!r}: {line}", param="model")
    # diffusers sets the backend on the model's processors, which is wanted, and as the whole process's default, which
    # the surrounding context puts back.
    with attention_backend(AttentionBackendName.NATIVE):
        transformer.set_attention_backend(BACKENDS[name][0])

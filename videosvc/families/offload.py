"""Parts of a model that are on the GPU only while they are used: Wan's text encoder is larger than its smallest
transformer, and its autoencoder has nothing to do while a clip is denoised.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import nn

from videosvc.config.models import OffloadedPart
from videosvc.errors import ModelError
from videosvc.families.clip_decoder import Present

if TYPE_CHECKING:
    from transformers import UMT5EncoderModel


OFFLOADED = get_args(OffloadedPart)


def offload_refusal(part: str, vae: str, device: torch.device) -> str | None:
    """Why `part` cannot be offloaded from `device`, in one line; None if it can. `vae`: the autoencoder's class."""
    if part == "vae" and vae != "AutoencoderKLWan":
        return f"offload of vae cannot be: only an AutoencoderKLWan is worth it, and this is a {vae}"
    if device.type == "cuda":
        return None
    return f"offload of {part} cannot be: it needs a GPU to come back from, and this is a {device.type}"


def check_offload(model: str, parts: Collection[str], vae: str, device: torch.device) -> None:
    """Before anything is loaded. Raises ModelError."""
    for part in parts:
        if line := offload_refusal(part, vae, device):
            raise ModelError(f"model {model!r}: {line}", param="model")


def encoder_on_call(encoder: UMT5EncoderModel, device: torch.device) -> tuple[UMT5EncoderModel, Callable[[], None]]:
    """The encoder, which accelerate's hook moves to `device` when it is called, and what moves it back."""
    from accelerate import cpu_offload_with_hook

    encoder, hook = cpu_offload_with_hook(encoder, device)
    return encoder, hook.offload


def decoder_while(vae: Any, device: torch.device) -> Present:
    """What has the decoding half of an `AutoencoderKLWan` on `device` while it is entered; the other half stays."""
    return _half_while([vae.post_quant_conv, vae.decoder], device)


def picture_encoder_while(vae: Any, device: torch.device) -> Present:
    """The same of the encoding half."""
    return _half_while([vae.encoder, vae.quant_conv], device)


def _half_while(parts: Sequence[nn.Module], device: torch.device) -> Present:
    """accelerate's hook moves them, but is not on their forward: that would hand the decoder a copy of the list that it
    keeps its state in.
    """
    from accelerate.hooks import CpuOffload

    half, hook = nn.ModuleList(parts), CpuOffload(device)
    hook.init_hook(half)

    @contextlib.contextmanager
    def present() -> Iterator[None]:
        try:
            hook.pre_forward(half)  # which may come to its end half-way, for want of memory
            yield
        finally:
            hook.init_hook(half)

    return present

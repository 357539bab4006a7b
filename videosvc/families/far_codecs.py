"""The causal family's frame caches by the lever's name, and whether a device can read them."""

from __future__ import annotations

import torch
from torch import Tensor

from videosvc_kernels import CacheCodec, FrameCache, Int4Codec, Int8Codec, NativeCodec, failure_of

TRIAL_TOKENS = 40


def far_codecs(head_dim: int, device: torch.device) -> dict[str, CacheCodec]:
    return {"native": NativeCodec(), "int8": Int8Codec(), "int4": Int4Codec(head_dim, device)}


def codec_refusal(name: str, head_dim: int, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why `device` cannot have `frame_cache = name`, in one line; None if it can. It is tried: on a GPU, seconds."""
    codec = far_codecs(head_dim, device)[name]

    @torch.inference_mode()
    def attended() -> Tensor:
        cache = FrameCache(1, None, codec)
        chunk = torch.ones(1, 1, TRIAL_TOKENS, head_dim, device=device, dtype=dtype)
        cache.append(0, chunk, chunk)
        return cache.attend(0, chunk, chunk, chunk)

    reason = failure_of(attended)
    return None if reason is None else f"lever frame_cache={name!r} cannot be: {reason}"

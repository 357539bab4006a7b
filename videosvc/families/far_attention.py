"""Attention of the causal AnyFlow transformer against remembered keys and values.

Set as processors on the attention modules of one stock transformer, these replace flex attention with block
masks: what a chunk may see is exactly what is in the cache plus itself, so nothing needs to be masked, and
plain attention does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from videosvc_kernels import Rotation, rotate

KeyValue = tuple[Tensor, Tensor]
T = TypeVar("T")
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # what a query sees in a past and in a key and value of its own


@dataclass(frozen=True, slots=True)
class Memory:
    """One layer's past during a forward: what its self-attention sees, and where it leaves its own."""

    past: Attend | KeyValue | None  # a frame cache's `attend`, or, as in training, keys and values as they are
    keep: Callable[[Tensor, Tensor], None] | None


def heads(attention: Any, x: Tensor) -> Tensor:
    """(B, L, H*D) -> (B, H, L, D)"""
    batch, tokens, _ = x.shape
    return x.view(batch, tokens, attention.heads, -1).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    """(B, H, L, D) -> (B, L, H*D)"""
    return x.transpose(1, 2).flatten(2, 3)


def _output(attention: Any, x: Tensor) -> Tensor:
    """(B, H, L, D) -> (B, L, channels)"""
    projected: Tensor = attention.to_out[0](joined(x))
    return projected


def _normalised(norm: Any, x: Tensor) -> Tensor:
    """RMS norm over all heads; it may compute in float32, hence the way back to the type of `x`."""
    normalised: Tensor = norm(x)
    return normalised.to(x.dtype)


class CachedSelfAttention:
    """A chunk's self-attention over itself and the layer's `Memory`, whose keys are rotated already."""

    def __call__(
        self,
        attention: Any,
        hidden_states: Tensor,
        rotary_emb: Rotation,
        attention_mask: None,
        kv_cache: Memory,
        kv_cache_flag: None,
    ) -> Tensor:
        query = heads(attention, _normalised(attention.norm_q, attention.to_q(hidden_states)))
        key = heads(attention, _normalised(attention.norm_k, attention.to_k(hidden_states)))
        value = heads(attention, attention.to_v(hidden_states))
        query, key = rotate(query, rotary_emb), rotate(key, rotary_emb)
        return _output(attention, attend(query, key, value, kv_cache))


def _call(function: Callable[..., T], *tensors: Tensor) -> T:
    return function(*tensors)


# What reaches a cache: its chunks come and go, and code compiled for some would be compiled anew for others.
_uncompiled: Callable[..., Any] = torch.compiler.disable(_call)


def attend(query: Tensor, key: Tensor, value: Tensor, memory: Memory) -> Tensor:
    """What a chunk sees in itself and in a layer's past, `(B, H, L, D)`; then it leaves its own there, if wanted."""
    attended = _attended(query, key, value, memory.past)
    if memory.keep is not None:
        _uncompiled(memory.keep, key, value)
    return attended


def _attended(query: Tensor, key: Tensor, value: Tensor, past: Attend | KeyValue | None) -> Tensor:
    if callable(past):
        attended: Tensor = _uncompiled(past, query, key, value)
        return attended
    if past is not None:
        key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
    return F.scaled_dot_product_attention(query, key, value)


class TextAttention:
    """Cross-attention to keys and values of the prompt made beforehand by `text_key_value`, once a clip."""

    def __call__(self, attention: Any, hidden_states: Tensor, encoder_hidden_states: KeyValue) -> Tensor:
        query = heads(attention, _normalised(attention.norm_q, attention.to_q(hidden_states)))
        return _output(attention, F.scaled_dot_product_attention(query, *encoder_hidden_states))


def text_key_value(attention: Any, text: Tensor) -> KeyValue:
    """Keys and values `(B, H, L, D)` of projected text `(B, L, channels)` for one cross-attention module."""
    key = heads(attention, _normalised(attention.norm_k, attention.to_k(text)))
    return key.contiguous(), heads(attention, attention.to_v(text)).contiguous()

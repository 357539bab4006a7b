"""Attention over keys that come piece by piece: each piece alone, with what it weighs, then put together.

Online softmax, arXiv 1805.02867; the merging is ring attention's, arXiv 2310.01889.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.backends.cuda import SDPAParams, can_use_flash_attention

FLASH_MULTIPLE = 8  # of a head's numbers


@dataclass(frozen=True, slots=True)
class Partial:
    """Attention over some of the keys."""

    output: Tensor  # (B, H, L, D), the softmax over these keys alone
    weight: Tensor  # (B, H, L) float32: log of the sum of their exponentials


def partial_attention(query: Tensor, key: Tensor, value: Tensor) -> Partial:
    """`query`: `(B, H, L, D)`; `key` and `value`: `(B, H, M, D)`, of the same type."""
    # The kernels behind scaled_dot_product_attention, which keeps the weights to itself.
    if query.device.type == "cpu":
        return Partial(*torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value))
    if has_flash(query, key, value):
        return Partial(*torch.ops.aten._scaled_dot_product_flash_attention(query, key, value)[:2])
    return partial_attention_reference(query, key, value)


def has_flash(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether a GPU's flash attention takes them: half or bfloat16, from compute capability 8.0 on."""
    if query.shape[-1] % FLASH_MULTIPLE:
        return False
    return can_use_flash_attention(SDPAParams(query, key, value, None, 0.0, False, False))


def partial_attention_reference(query: Tensor, key: Tensor, value: Tensor) -> Partial:
    """The same with all scores in memory at once, in float32 at least."""
    wide = torch.promote_types(query.dtype, torch.float32)
    scores = query.to(wide) @ key.to(wide).transpose(-1, -2) * query.shape[-1] ** -0.5
    output = scores.softmax(dim=-1) @ value.to(wide)
    return Partial(output.to(query.dtype), scores.logsumexp(dim=-1))


def merge(one: Partial, other: Partial) -> Partial:
    """Attention over the keys of both, in float32 at least."""
    weight = torch.logaddexp(one.weight, other.weight)
    share, rest = ((part.weight - weight).exp()[..., None] for part in (one, other))
    return Partial(one.output * share + other.output * rest, weight)

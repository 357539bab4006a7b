"""Attention as it is defined, in float64: what every faster one is compared with."""

from __future__ import annotations

from torch import Tensor


def dense(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = query.double() @ key.double().transpose(-1, -2) * query.shape[-1] ** -0.5
    return scores.softmax(-1) @ value.double()

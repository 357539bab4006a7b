"""Tensors that are the same in every run."""

from __future__ import annotations

import torch
from torch import Tensor


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

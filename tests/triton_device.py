"""Where Triton's kernels are tested: on a GPU, else in Triton's interpreter, which conftest.py asks for.

Importing this skips a test module where there is no Triton, or one that can do neither.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import seeded

triton_language = pytest.importorskip("triton.language")
DEVICE = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
if DEVICE.type == "cpu" and type(triton_language.zeros).__name__ != "InterpretedFunction":
    pytest.skip("there is no GPU, and Triton's interpreter was not asked for", allow_module_level=True)
# The interpreter cuts off what a GPU rounds.
BFLOAT16_ERROR = 2**-8 if DEVICE.type == "cuda" else 2**-7
# Numpy's warnings, of which the interpreter is made; a GPU says nothing.
INTERPRETED = pytest.mark.filterwarnings(
    "ignore:(overflow|invalid value|divide by zero|All-NaN slice) encountered:RuntimeWarning"
)


def random(seed: int, *shape: int) -> Tensor:
    """On that device."""
    return seeded.random(seed, *shape).to(DEVICE)

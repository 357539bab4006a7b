"""Where Triton's kernels are tested: on a GPU, else in Triton's interpreter, which conftest.py asks for.

Importing this skips a test module where there is no Triton, or one that can do neither.
"""

from __future__ import annotations

import pytest
import torch

triton_language = pytest.importorskip("triton.language")
DEVICE = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
if DEVICE.type == "cpu" and type(triton_language.zeros).__name__ != "InterpretedFunction":
    pytest.skip("there is no GPU, and Triton's interpreter was not asked for", allow_module_level=True)
# Numpy's, of which the interpreter is made; a GPU says nothing.
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value|divide by zero) encountered:RuntimeWarning")

"""Whether Triton's kernels can run on a device, and what a first try of something says."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import cache

import torch
from torch.utils._triton import has_triton


@cache
def triton_refusal(device: torch.device) -> str | None:
    """Why Triton's kernels cannot run on `device`, in one line; None if they can."""
    if device.type != "cuda":
        return f"{device} is no GPU"
    if not has_triton():
        return "triton is not installed, or does not know this GPU"
    compiler = os.environ.get("CC")
    if not any(map(shutil.which, [compiler] if compiler else ["gcc", "clang"])):  # it builds what starts a kernel
        named = f"CC={compiler}" if compiler else "gcc or clang"
        return f"triton needs a C compiler, and there is no {named}"
    return None


def failure_of(attempt: Callable[[], torch.Tensor]) -> str | None:
    """Why `attempt` fails, in one line; None if it does not, up to the last number of what it gives.

    Raises torch.OutOfMemoryError, which says nothing about what was tried.
    """
    try:
        attempt().cpu()  # what a GPU was told to do may fail later than the telling
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # Triton, the compiler it calls and the driver each have errors of their own
        return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return None

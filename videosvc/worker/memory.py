"""Running out of memory: how it shows, and what can be had back."""

from __future__ import annotations

import gc

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """A GPU's allocator has an exception of its own; a CPU's tells by its words."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def free_memory() -> None:
    """To be called when the error is no longer held: its traceback holds every tensor of its frames."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()

"""A transformer's blocks, compiled: what eager torch does in a dozen small kernels between two products is one.

Attention over the frame cache stays out of it: chunks come and go there, and each would be compiled anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx.experimental import _config as shapes

from videosvc_kernels import triton_refusal

# One code serves all blocks, and is compiled anew for each kind of number and layer, and for one row and several.
RECOMPILES = 64


def compile_refusal(device: torch.device) -> str | None:
    """Why nothing can be compiled for `device`, in one line; None if it can."""
    if device.type == "cuda":
        reason = triton_refusal(device)
        return None if reason is None else f"nothing is compiled for a GPU: {reason}"
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return "compiling for a CPU needs a C++ compiler, g++ or clang++, and there is none"
    return None


def compile_blocks(transformer: Any, trials: Callable[[], None]) -> None:
    """Compiles `transformer.blocks` for any size, by running `trials`, which put a clip of each kind through them.

    Code for two rows serves any number of them, so clips in company wait for no code of their own. Takes half a minute;
    a few seconds where TORCHINDUCTOR_CACHE_DIR holds what an earlier process made. On the CPU, a step of the bundled
    model then takes 0.7 of a plain one's time with int8 weights and 0.8 with bfloat16; float32 gains nothing on it, and
    loses to lean blocks.
    Raises RuntimeError if compiling fails.
    """
    for block in transformer.blocks:
        # One thread compiles: several would be processes of their own. (What is set in torch's configuration instead
        # holds in the thread that sets it.)
        block.compile(dynamic=True, recompile_limit=RECOMPILES, options={"compile_threads": 1})
    # Else what has two rows where there are two heads is compiled for just as many rows as heads.
    with shapes.patch(use_duck_shape=False):  # type: ignore[attr-defined]
        trials()

"""A transformer's blocks in int8: which of their layers stand it is measured, once a checkpoint, and kept on disk."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from videosvc_kernels import (
    layers_to_keep,
    linears,
    load_quantized,
    quantize_linears,
    quantized_state,
    read_weights,
    write_weights,
)

# Root mean square, relative, of the velocity. All blocks of the bundled model together are at 0.018, its first and last
# no worse than the others.
TOLERANCE = 0.02


def quantize_blocks(transformer: Any, trial: Callable[[], Tensor], model_hash: str, folder: Path | None) -> int:
    """Puts int8 in place of the linear layers in `transformer.blocks`; returns how many.

    The most sensitive ones stay if all together would exceed `TOLERANCE` on what `trial` puts through the model. What
    is outside the blocks stays in any case: time and text embeddings, modulation and the last projection are the most
    sensitive of all (measured), and run on a row a step or once a clip. `folder`: where to keep the result, and to
    look for it; None: nowhere.
    """
    path = folder / f"{model_hash}.int8.safetensors" if folder is not None else None
    key = f"{model_hash} {TOLERANCE}"
    known = read_weights(path, key) if path is not None else None
    if known is not None:
        with contextlib.suppress(ValueError):  # not of this model after all: made anew
            return len(load_quantized(transformer, known))
    candidates = [f"blocks.{name}" for name in linears(transformer.blocks)]
    chosen = frozenset(candidates) - layers_to_keep(transformer, candidates, trial, TOLERANCE)
    quantize_linears(transformer, lambda name, _: name not in chosen)
    if path is not None:
        with contextlib.suppress(OSError):  # a full or read-only disk makes the next start slow, no more
            write_weights(path, key, quantized_state(transformer))
    return len(chosen)

"""A transformer's blocks in int8 or fp8: which of their layers stand it is measured, once a checkpoint, and kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from videosvc_kernels import (
    Fp8Linear,
    Int8Linear,
    LowBitLinear,
    fp8_product_refusal,
    int8_product_refusal,
    layers_to_keep,
    linears,
    load_quantized,
    quantize_linears,
    quantized_state,
    read_weights,
    write_weights,
)

LAYERS: Mapping[str, type[LowBitLinear]] = MappingProxyType({"int8": Int8Linear, "fp8": Fp8Linear})
# Root mean square, relative, of the velocity. All blocks of the bundled model together are at 0.027 in int8, at 0.038
# stored in fp8 and at 0.055 multiplied in it; its first and last no worse than the others.
TOLERANCES: Mapping[str, float] = MappingProxyType({"int8": 0.02, "fp8": 0.04})


def storage_only(weights: str, device: torch.device) -> str | None:
    """What such weights do not save on `device`, and why, in one line; None if they save all they can."""
    refusals = {"fp8": fp8_product_refusal, "int8": int8_product_refusal}
    reason = refusals[weights](device) if weights in refusals else None
    return None if reason is None else f"saves memory, no time: {reason}"


def quantize_blocks(
    transformer: Any, weights: str, trial: Callable[[], Tensor], model_hash: str, stamp: str, folder: Path | None
) -> int:
    """Puts layers of `weights`, a key of `LAYERS`, in place of those in `transformer.blocks`; returns how many.

    The most sensitive ones stay if all together would exceed the tolerance on what `trial` puts through the model.
    What is outside the blocks stays in any case: time and text embeddings, modulation and the last projection are the
    most sensitive of all (measured), and run on a row a step or once a clip. `folder`: where to keep the result, and
    to look for it; None: nowhere. `stamp`: of the files the weights came from, as the hash only samples them.
    """
    layer, tolerance = LAYERS[weights], TOLERANCES[weights]
    # What is multiplied in few bits is less exact than what is stored in them: not the same layers stand it.
    way = f"{weights}-stored" if storage_only(weights, transformer.device) else weights
    # And what one device computes within the tolerance, or in one type, another may not.
    where = f"{transformer.device.type}-{str(transformer.dtype).removeprefix('torch.')}"
    path = folder / f"{model_hash}.{way}.{where}.safetensors" if folder is not None else None
    key = f"{model_hash} {tolerance} {where} {stamp}"
    known = read_weights(path, key) if path is not None else None
    if known is not None:
        with contextlib.suppress(ValueError):  # not of this model after all: made anew
            return len(load_quantized(transformer, layer, known))
    candidates = [f"blocks.{name}" for name in linears(transformer.blocks)]
    chosen = frozenset(candidates) - layers_to_keep(transformer, layer, candidates, trial, tolerance)
    quantize_linears(transformer, layer, lambda name, _: name not in chosen)
    if path is not None:
        with contextlib.suppress(OSError):  # a full or read-only disk makes the next start slow, no more
            write_weights(path, key, quantized_state(transformer))
    return len(chosen)

"""Which layers may be quantised: measured by quantising one at a time and looking at what the model then says."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from videosvc_kernels.low_bit_linear import LowBitLinear


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What quantising one layer alone does to the model's output."""

    name: str
    error: float  # root mean square, relative to the output's; infinite if it is no longer finite


def layers_to_keep(
    module: nn.Module, layer: type[LowBitLinear], names: Sequence[str], run: Callable[[], Tensor], tolerance: float
) -> frozenset[str]:
    """Those of the linear layers `names` to make no `layer` of for the output to be within `tolerance` of what it is.

    None, if quantising all is within it; only else each is measured alone, which takes a run a layer. `run` puts the
    same inputs through the model each time. The model is left as it was.
    """
    with torch.inference_mode():
        if _error(module, layer, names, run, run()) <= tolerance:
            return frozenset()
    return keep_high(sensitivities(module, layer, names, run), tolerance)


@torch.inference_mode()
def sensitivities(
    module: nn.Module, layer: type[LowBitLinear], names: Sequence[str], run: Callable[[], Tensor]
) -> tuple[Sensitivity, ...]:
    """The linear layers `names` of `module`, the most sensitive first. As `layers_to_keep`, it changes nothing."""
    wanted = run()
    found = [Sensitivity(name, _error(module, layer, [name], run, wanted)) for name in names]
    return tuple(sorted(found, key=lambda one: -one.error))


def _error(
    module: nn.Module, layer: type[LowBitLinear], names: Sequence[str], run: Callable[[], Tensor], wanted: Tensor
) -> float:
    """What quantising `names` together does to the output, as in `Sensitivity`."""
    originals = {name: module.get_submodule(name) for name in names}
    try:
        for name, linear in originals.items():
            assert isinstance(linear, nn.Linear)
            module.set_submodule(name, layer.of(linear))
        off = torch.linalg.vector_norm(run().double() - wanted.double())
    finally:
        for name, linear in originals.items():
            module.set_submodule(name, linear)
    error = (off / torch.linalg.vector_norm(wanted.double())).item()
    return error if math.isfinite(error) else math.inf


def keep_high(ranked: Sequence[Sensitivity], tolerance: float) -> frozenset[str]:
    """The fewest layers to leave alone for the others to be within `tolerance` together.

    `ranked`: the most sensitive first. Errors of different layers point in different directions, so they add up as
    squares do.
    """
    together, keep = 0.0, len(ranked)
    for one in reversed(ranked):
        together = math.hypot(together, one.error)
        if together > tolerance:
            break
        keep -= 1
    return frozenset(one.name for one in ranked[:keep])

"""Which layers may be quantised: measured by quantising one at a time and looking at what the model then says."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from videosvc_kernels.int8_linear import Int8Linear


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What quantising one layer alone does to the model's output."""

    name: str
    error: float  # root mean square, relative to the output's; infinite if it is no longer finite


@torch.inference_mode()
def sensitivities(module: nn.Module, names: Iterable[str], run: Callable[[], Tensor]) -> tuple[Sensitivity, ...]:
    """The linear layers `names` of `module`, the most sensitive first.

    `run` puts the same inputs through the model each time. The model is left as it was.
    """
    wanted = run().double()
    found = []
    for name in names:
        linear = module.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        module.set_submodule(name, Int8Linear.of(linear))
        try:
            error = (torch.linalg.vector_norm(run().double() - wanted) / torch.linalg.vector_norm(wanted)).item()
        finally:
            module.set_submodule(name, linear)
        found.append(Sensitivity(name, error if math.isfinite(error) else math.inf))
    return tuple(sorted(found, key=lambda one: -one.error))


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

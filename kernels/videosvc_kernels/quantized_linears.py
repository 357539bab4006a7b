"""Low-bit layers put in place of a model's own, and taken out again as tensors to keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from videosvc_kernels.int8_linear import Int8Linear
from videosvc_kernels.quantize import Int8Rows


def linears(module: nn.Module) -> dict[str, nn.Linear]:
    """Every `nn.Linear` in `module` by its name there, in order."""
    return {name: part for name, part in module.named_modules() if isinstance(part, nn.Linear)}


def quantize_linears(module: nn.Module, keep: Callable[[str, nn.Linear], bool]) -> tuple[str, ...]:
    """Puts an `Int8Linear` in place of each linear layer but those that `keep` is true of; returns their names."""
    replaced = [name for name, linear in linears(module).items() if not keep(name, linear)]
    for name in replaced:
        linear = module.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        module.set_submodule(name, Int8Linear.of(linear))
    return tuple(replaced)


def quantized_state(module: nn.Module) -> dict[str, Tensor]:
    """Codes and scales of every `Int8Linear` in `module`, by name."""
    state: dict[str, Tensor] = {}
    for name, part in module.named_modules():
        if isinstance(part, Int8Linear):
            state |= {f"{name}.codes": part.codes, f"{name}.scale": part.scale}
    return state


def load_quantized(module: nn.Module, state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Does to `module` what was done to the one that `state` was taken from; returns the layers' names.

    Raises ValueError, before anything is replaced, if it is of another model.
    """
    own = linears(module)
    names = sorted({key.rpartition(".")[0] for key in state})
    layers: dict[str, Int8Linear] = {}
    for name in names:
        codes, scale, linear = state.get(f"{name}.codes"), state.get(f"{name}.scale"), own.get(name)
        if codes is None or scale is None or linear is None:
            raise ValueError(f"{name}: no linear layer of this model, or half of one")
        if (codes.shape, scale.shape) != (linear.weight.shape, linear.weight.shape[:1]):
            raise ValueError(f"{name}: {tuple(codes.shape)} does not fit {tuple(linear.weight.shape)}")
        if (codes.dtype, scale.dtype) != (torch.int8, torch.float32):
            raise ValueError(f"{name}: {codes.dtype} and {scale.dtype} are not int8 and float32")
        device = linear.weight.device
        layers[name] = Int8Linear(Int8Rows(codes.to(device), scale.to(device)), linear.bias)
    for name, layer in layers.items():
        module.set_submodule(name, layer)
    return tuple(names)

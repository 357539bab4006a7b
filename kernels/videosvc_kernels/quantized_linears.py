"""Low-bit layers put in place of a model's own, and taken out again as tensors to keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from videosvc_kernels.low_bit_linear import LowBitLinear


def linears(module: nn.Module) -> dict[str, nn.Linear]:
    """Every `nn.Linear` in `module` by its name there, in order."""
    return {name: part for name, part in module.named_modules() if isinstance(part, nn.Linear)}


def quantize_linears(
    module: nn.Module, layer: type[LowBitLinear], keep: Callable[[str, nn.Linear], bool]
) -> tuple[str, ...]:
    """Puts a `layer` in place of each linear layer but those that `keep` is true of; returns their names."""
    replaced = [name for name, linear in linears(module).items() if not keep(name, linear)]
    for name in replaced:
        linear = module.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        module.set_submodule(name, layer.of(linear))
    return tuple(replaced)


def quantized_state(module: nn.Module) -> dict[str, Tensor]:
    """Codes and scales of every low-bit layer in `module`, by name."""
    state: dict[str, Tensor] = {}
    for name, part in module.named_modules():
        if isinstance(part, LowBitLinear):
            state |= {f"{name}.codes": part.codes, f"{name}.scale": part.scale}
    return state


def load_quantized(module: nn.Module, layer: type[LowBitLinear], state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Does to `module` what was done to the one that `state` was taken from; returns the names of what is now `layer`.

    Raises ValueError, before anything is replaced, if it is of another model or kind of layer.
    """
    own = linears(module)
    names = sorted({key.rpartition(".")[0] for key in state})
    layers: dict[str, LowBitLinear] = {}
    for name in names:
        codes, scale, linear = state.get(f"{name}.codes"), state.get(f"{name}.scale"), own.get(name)
        if codes is None or scale is None or linear is None:
            raise ValueError(f"{name}: no linear layer of this model, or half of one")
        if (codes.shape, scale.shape) != (linear.weight.shape, linear.weight.shape[:1]):
            raise ValueError(f"{name}: {tuple(codes.shape)} does not fit {tuple(linear.weight.shape)}")
        if (codes.dtype, scale.dtype) != (layer.CODES, torch.float32):
            raise ValueError(f"{name}: {codes.dtype} and {scale.dtype} are not {layer.CODES} and torch.float32")
        device = linear.weight.device
        layers[name] = layer(codes.to(device), scale.to(device), linear.bias)
    for name, low in layers.items():
        module.set_submodule(name, low)
    return tuple(names)

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from videosvc_kernels import (
    Fp8Linear,
    Int8Linear,
    LowBitLinear,
    Sensitivity,
    keep_high,
    layers_to_keep,
    linears,
    quantize_linears,
    sensitivities,
)


def test_ranks_layers_by_what_they_do_to_the_output() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32))
    with torch.no_grad():
        # One huge column sets the scale of all others: int8 leaves little of them.
        module[1].weight[:, 0] *= 1000
        module[0].weight[0], module[0].bias[0] = 0, 0  # and it meets zeros only
    x = torch.randn(16, 32)
    before, names = list(module), list(linears(module))
    ranked = sensitivities(module, Int8Linear, names, lambda: module(x))
    assert list(module) == before
    assert ranked[0].name == "1" and ranked[0].error > 5 * ranked[1].error
    assert all(0 < one.error < 0.02 for one in ranked[1:])
    assert layers_to_keep(module, Int8Linear, names, lambda: module(x), tolerance=0.02) == {"1"}
    assert layers_to_keep(module, Int8Linear, names, lambda: module(x), tolerance=10) == frozenset()
    assert layers_to_keep(module, Int8Linear, names, lambda: module(x), tolerance=0) == set(names)
    assert list(module) == before


@pytest.mark.parametrize("layer", [Int8Linear, Fp8Linear])
def test_together_they_are_about_what_keep_high_reckons(layer: type[LowBitLinear]) -> None:
    torch.manual_seed(1)
    module = nn.Sequential(*(layer for _ in range(6) for layer in (nn.Linear(64, 64), nn.GELU(), nn.LayerNorm(64))))
    x = torch.randn(64, 64)
    with torch.inference_mode():
        wanted = module(x)
        ranked = sensitivities(module, layer, list(linears(module)), lambda: module(x))
        quantize_linears(module, layer, lambda *_: False)
        off = (torch.linalg.vector_norm(module(x) - wanted) / torch.linalg.vector_norm(wanted)).item()
    assert off == pytest.approx(math.hypot(*(one.error for one in ranked)), rel=0.5)


def test_a_layer_that_breaks_the_model_comes_first() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    outputs = iter([torch.ones(4), torch.full((4,), 1.01), torch.tensor([1.0, math.nan, 1.0, 1.0])])
    first, second = sensitivities(module, Int8Linear, ["0", "1"], lambda: next(outputs))
    assert first == Sensitivity("1", math.inf) and second.error == pytest.approx(0.01)
    assert keep_high([first, second], 0.02) == {"1"}


def test_the_model_is_whole_even_if_the_run_fails() -> None:
    module = nn.Sequential(nn.Linear(4, 4))
    before, outputs = module[0], iter([torch.ones(4)])
    with pytest.raises(StopIteration):
        sensitivities(module, Int8Linear, ["0"], lambda: next(outputs))
    assert module[0] is before


@given(st.lists(st.floats(1e-6, 1.0), max_size=12), st.floats(1e-6, 2.0))
def test_keeps_the_fewest_that_must_be(errors: list[float], tolerance: float) -> None:
    ranked = [Sensitivity(str(i), error) for i, error in enumerate(sorted(errors, reverse=True))]
    kept = keep_high(ranked, tolerance)
    assert kept == {one.name for one in ranked[: len(kept)]}
    assert math.hypot(*(one.error for one in ranked[len(kept) :])) <= tolerance * (1 + 1e-9)
    if kept:
        assert math.hypot(*(one.error for one in ranked[len(kept) - 1 :])) > tolerance * (1 - 1e-9)

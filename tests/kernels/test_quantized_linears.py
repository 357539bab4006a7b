from __future__ import annotations

import pytest
import torch
from torch import nn

from videosvc_kernels import (
    Fp8Linear,
    Int8Linear,
    LowBitLinear,
    linears,
    load_quantized,
    quantize_linears,
    quantized_state,
)


def model(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    inner = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8, bias=False))
    return nn.Sequential(nn.Linear(4, 8), nn.ModuleDict({"block": inner})["block"], nn.Linear(8, 4))


def test_replaces_all_but_what_is_kept() -> None:
    module = model()
    assert list(linears(module)) == ["0", "1.0", "1.2", "2"]
    kept = module[0]
    assert quantize_linears(module, Int8Linear, lambda name, linear: name == "0" or linear.out_features == 4) == (
        "1.0",
        "1.2",
    )
    assert module[0] is kept and list(linears(module)) == ["0", "2"]
    assert isinstance(module.get_submodule("1.2"), Int8Linear)
    assert module(torch.randn(3, 4)).shape == (3, 4)


@pytest.mark.parametrize("layer", [Int8Linear, Fp8Linear])
def test_a_state_loads_into_the_same_model(layer: type[LowBitLinear]) -> None:
    quantised, fresh = model(), model()
    names = quantize_linears(quantised, layer, lambda name, _: name == "2")
    assert load_quantized(fresh, layer, quantized_state(quantised)) == names
    x = torch.randn(5, 4)
    assert torch.equal(fresh(x), quantised(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"1.1.codes": torch.zeros(16, 8, dtype=torch.int8), "1.1.scale": torch.ones(16)}, r"1\.1: no linear layer"),
        ({"1.0.scale": torch.ones(15)}, r"1\.0: \(16, 8\) does not fit"),
        ({"1.0.codes": torch.zeros(16, 9, dtype=torch.int8)}, r"1\.0: \(16, 9\) does not fit"),
        ({"1.0.codes": torch.zeros(16, 8)}, r"1\.0: torch.float32 and torch.float32 are not"),
        ({"2.codes": torch.zeros(4, 8, dtype=torch.int8)}, r"2: .* half of one"),
    ],
)
def test_another_models_state_changes_nothing(change: dict[str, torch.Tensor], message: str) -> None:
    quantised, fresh = model(), model()
    quantize_linears(quantised, Int8Linear, lambda name, _: name == "2")
    with pytest.raises(ValueError, match=message):
        load_quantized(fresh, Int8Linear, quantized_state(quantised) | change)
    assert len(linears(fresh)) == 4


def test_a_state_of_another_kind_changes_nothing() -> None:
    quantised, fresh = model(), model()
    quantize_linears(quantised, Int8Linear, lambda name, _: name == "2")
    with pytest.raises(ValueError, match=r"0: torch.int8 and torch.float32 are not torch.float8_e4m3fn and"):
        load_quantized(fresh, Fp8Linear, quantized_state(quantised))
    assert len(linears(fresh)) == 4

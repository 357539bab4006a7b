"""What is said beside a lever that a device takes and gains nothing by."""

from __future__ import annotations

import pytest
import torch

from videosvc.families import lever_remarks, low_bit_weights
from videosvc.families.lever_remarks import lever_remark

GPU, CPU = torch.device("cuda:0"), torch.device("cpu")


@pytest.fixture
def with_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("triton_refusal", "fused_refusal"):
        monkeypatch.setattr(lever_remarks, name, lambda device: None)
    monkeypatch.setattr(low_bit_weights, "fp8_product_refusal", lambda device: None)


@pytest.mark.usefixtures("with_triton")
def test_a_gpu_with_all_there_is() -> None:
    assert lever_remark("wan", "weights", "bf16", GPU) == "does nothing here: native is bfloat16 on a GPU"
    remark = lever_remark("anyflow_far", "compile", "true", GPU)
    assert remark == "does nothing here beside weights='int8', whose blocks are fused already"
    for family, lever, value in (
        ("wan", "compile", "true"),
        ("wan", "weights", "int8"),
        ("wan", "weights", "fp8"),
        ("anyflow_far", "frame_cache", "int4"),
        ("anyflow_far", "weights", "native"),
    ):
        assert lever_remark(family, lever, value, GPU) is None


def test_a_gpu_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("triton_refusal", "fused_refusal"):
        monkeypatch.setattr(lever_remarks, name, lambda device: "there is no gcc")
    assert str(lever_remark("wan", "weights", "int8", GPU)).endswith("which is slower: there is no gcc")
    assert str(lever_remark("anyflow_far", "frame_cache", "int8", GPU)).endswith("which is slower: there is no gcc")
    assert lever_remark("anyflow_far", "frame_cache", "native", GPU) is None
    assert lever_remark("anyflow_far", "compile", "true", GPU) is None


def test_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(lever_remark("wan", "weights", "fp8", CPU)).startswith("saves memory, no time: cpu has no fp8 products")
    monkeypatch.setattr(low_bit_weights, "int8_product_refusal", lambda device: "no such instructions")
    assert lever_remark("wan", "weights", "int8", CPU) == "saves memory, no time: no such instructions"
    monkeypatch.setattr(low_bit_weights, "int8_product_refusal", lambda device: None)
    for lever, value in (("weights", "bf16"), ("weights", "int8"), ("frame_cache", "int4"), ("compile", "true")):
        assert lever_remark("anyflow_far", lever, value, CPU) is None

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from videosvc_kernels import failure_of, triton_refusal

GPU = torch.device("cuda:0")
MODULE = "videosvc_kernels.triton_refusal"
refusal = triton_refusal.__wrapped__


def test_needs_a_gpu_triton_and_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert triton_refusal(torch.device("cpu")) == "cpu is no GPU"
    monkeypatch.setattr(sys.modules[MODULE], "has_triton", lambda: False)
    assert refusal(GPU) == "triton is not installed, or does not know this GPU"
    monkeypatch.setattr(sys.modules[MODULE], "has_triton", lambda: True)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refusal(GPU) == "triton needs a C compiler, and there is no gcc or clang"
    clang = tmp_path / "clang"
    clang.touch(0o755)
    assert refusal(GPU) is None
    monkeypatch.setenv("CC", "tcc")
    assert refusal(GPU) == "triton needs a C compiler, and there is no CC=tcc"
    monkeypatch.setenv("CC", str(clang))
    assert refusal(GPU) is None


def test_a_failure_is_one_line() -> None:
    def fails(error: Exception) -> Tensor:
        raise error

    assert failure_of(lambda: torch.ones(1)) is None
    assert (
        failure_of(lambda: fails(RuntimeError("Failed to find C compiler.\nSee above"))) == "Failed to find C compiler."
    )
    assert failure_of(lambda: fails(KeyError())) == "KeyError"
    assert failure_of(lambda: torch.ones(1, device="meta")) is not None
    with pytest.raises(torch.OutOfMemoryError):
        failure_of(lambda: fails(torch.OutOfMemoryError("none left")))

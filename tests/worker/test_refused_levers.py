from __future__ import annotations

import pytest
import torch

from videosvc.families import block_levers
from videosvc.worker.refused_levers import refused_levers


def test_what_a_device_cannot_load_has_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_levers, "compile_refusal", lambda device: "there is no compiler")
    monkeypatch.setattr(block_levers, "int8_refusal", lambda device: "its products are not exact here")
    monkeypatch.setattr(block_levers, "bfloat16_refusal", lambda device: None)
    assert refused_levers(torch.device("cpu")) == {
        "weights=int8": "lever weights='int8' cannot be: its products are not exact here",
        "compile=true": "lever compile=true cannot be: there is no compiler",
    }

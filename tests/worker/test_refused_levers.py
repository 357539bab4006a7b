from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tiny_model import make_tiny_checkpoint
from videosvc.config.models import ModelEntry
from videosvc.families import block_levers, far_codecs
from videosvc.worker.refused_levers import refused_levers


def test_what_a_device_cannot_load_has_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_levers, "compile_refusal", lambda device: "there is no compiler")
    monkeypatch.setattr(block_levers, "int8_refusal", lambda device: "its products are not exact here")
    monkeypatch.setattr(block_levers, "bfloat16_refusal", lambda device: None)
    assert refused_levers(torch.device("cpu"), []) == {
        "weights=int8": "lever weights='int8' cannot be: its products are not exact here",
        "compile=true": "lever compile=true cannot be: there is no compiler",
    }


def test_a_frame_cache_is_refused_for_the_models_that_the_device_cannot_read_it_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusal(codec: str, head_dim: int, *_: object) -> str | None:
        return "no kernel for so few" if (codec, head_dim) == ("int8", 24) else None

    monkeypatch.setattr(far_codecs, "codec_refusal", refusal)
    paths = {
        "few": make_tiny_checkpoint(tmp_path / "few"),
        "many": with_head_dim(make_tiny_checkpoint(tmp_path / "many"), 32),
        "damaged": with_head_dim(make_tiny_checkpoint(tmp_path / "damaged"), 0),
        "elsewhere": tmp_path / "elsewhere",
    }
    entries = [
        ModelEntry(name=name, path=str(path), family="anyflow_far", sizes=("64x64",)) for name, path in paths.items()
    ]
    refused = refused_levers(torch.device("cpu"), entries)
    assert {name: reason for name, reason in refused.items() if "frame_cache" in name} == {
        "few frame_cache=int8": "no kernel for so few"
    }


def with_head_dim(folder: Path, head_dim: int) -> Path:
    file = folder / "transformer" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"attention_head_dim": head_dim}))
    return folder

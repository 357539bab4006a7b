from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tiny_model import make_tiny_checkpoint
from videosvc.engine.plan import Plan
from videosvc.families.anyflow_far import AnyFlowFAR


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def family(folder: Path) -> AnyFlowFAR:
    return AnyFlowFAR("tiny", folder, 1, torch.device("cpu"), torch.float32)


@pytest.fixture
def plan() -> Plan:
    return Plan(
        model="tiny",
        prompt="a red circle moves left",
        negative_prompt=None,
        seed=5,
        width=64,
        height=48,
        fps=8,
        seconds=2.5,  # 20 frames: three chunks, the last one trimmed
        steps=2,
        sampler="flow_map",
        guidance_scale=1.0,
        weights="native",
        frame_cache="native",
        decode="stream",
    )

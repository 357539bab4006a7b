"""That the bench of drafts runs and counts what it says. What it measures is no test's business."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from bench import draft
from known_configs import known_configs
from tiny_model import make_tiny_checkpoint
from training.toyworld.world import sample_scene


def test_two_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = tmp_path / "configs"
    known_configs(configs)
    checkpoint = make_tiny_checkpoint(tmp_path / "tiny")
    models = configs / "models.toml"
    models.write_text(models.read_text().replace('"bundled:toyworld"', f'"{checkpoint}"'))
    monkeypatch.setenv("VIDEOSVC_CONFIG_DIR", str(configs))
    scene = sample_scene(random.Random(0))
    monkeypatch.setattr(draft, "held_out_scenes", lambda count, seed: [(scene, "a red circle")] * count)
    path = tmp_path / "a.json"
    draft.main(["--clips", "2", "--thresholds", "1e-9", "1", "--output", str(path)])

    content = json.loads(path.read_text())
    means = content["means"]
    assert [means[f"{name}: forwards a chunk"] for name in ("1 step", "2 steps", "4 steps")] == [1, 2, 4]
    for name, accepted, forwards in (("draft 1e-09", 0, 4), ("draft 1", 1, 2)):
        assert means[f"{name}: accepted, opening"] == means[f"{name}: accepted, following"] == accepted
        assert means[f"{name}: forwards a chunk"] == forwards
        assert 0 < means[f"{name}: disagreement, following"] < 1
    assert content["probe"].keys() == {"1 step", "2 steps", "4 steps", "draft 1e-09", "draft 1"}
    assert content["clips"] == 2 and len(content["measures"]) == 3 + 2 * 5
    # An accepted draft is one jump from the same noise.
    assert content["probe"]["draft 1"] == content["probe"]["1 step"]

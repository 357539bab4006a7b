"""That the bench of the levers runs and measures what it says. What it measures is no test's business."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from bench import levers
from known_configs import known_configs
from tiny_model import make_tiny_checkpoint
from training.toyworld.world import sample_scene


def test_two_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = tmp_path / "configs"
    known_configs(configs)
    checkpoint = make_tiny_checkpoint(tmp_path / "tiny")
    models = configs / "models.toml"
    models.write_text(models.read_text().replace('"bundled:toyworld"', f'"{checkpoint}"'))
    monkeypatch.setenv("VIDEOSVC_CONFIG_DIR", str(configs))
    scene = sample_scene(random.Random(0))
    monkeypatch.setattr(levers, "held_out_scenes", lambda count, seed: [(scene, "a red circle")] * count)
    path = tmp_path / "a.json"
    levers.main(["--rounds", "2", "--steps", "2", "--output", str(path)])

    content = json.loads(path.read_text())
    assert content["machine"]["device"] == "cpu" and len(content["model"]["hash"]) > 8
    assert (content["rounds"], content["size"], content["steps"]) == (2, 64, 2)
    measures = {measure["name"]: measure for measure in content["measures"]}
    tokens, channels = 2 * 4 * 4, 48
    for name, bytes_a_token in (
        ("native", channels * 4),  # float32
        ("int8 weights", channels * 4),
        ("int8 cache", channels + 2 * 4),  # and a scale for each of two heads
        ("int4 cache", channels // 2 + 2 * 2),
    ):
        layers, keys_and_values = 2, 2
        expected = layers * keys_and_values * tokens * bytes_a_token
        assert measures[f"{name}: cache"]["p50"] == pytest.approx(expected, rel=1e-3)  # reports have four digits
    for name in levers.LEVER_SETS:
        assert measures[f"{name}: compute"]["p50"] >= measures[f"{name}: denoise"]["p50"] > 0
        assert content["probe"][name].keys() == {"background", "colour", "shape", "motion", "all four"}
        if name != "native":
            assert measures[f"{name} / native: compute"]["rounds"] == 2
            assert 0 < measures[f"{name} - native: latents, rms"]["p50"] < 0.1
            points = 100 * (content["probe"]["native"]["all four"] - content["probe"][name]["all four"])
            lost = measures[f"{name}: probe, all four lost"]
            assert lost["p50"] == pytest.approx(points) and lost["holds"] == (points <= lost["at_most"])
    assert measures["int8 product, 32x48x64"]["p50"] > 0

"""That the bench of the levers runs and measures what it says. What it measures is no test's business."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

from bench import levers
from known_configs import known_configs
from tiny_model import make_tiny_checkpoint
from training.toyworld.world import sample_scene
from videosvc_kernels import int8_product_refusal


@pytest.fixture
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny model, and a prompt that it can read."""
    configs = tmp_path / "configs"
    known_configs(configs)
    checkpoint = make_tiny_checkpoint(tmp_path / "tiny")
    models = configs / "models.toml"
    models.write_text(models.read_text().replace('"bundled:toyworld"', f'"{checkpoint}"'))
    monkeypatch.setenv("VIDEOSVC_CONFIG_DIR", str(configs))
    scene = sample_scene(random.Random(0))
    monkeypatch.setattr(levers, "held_out_scenes", lambda count, seed: [(scene, "a red circle")] * count)


@pytest.mark.usefixtures("configs")
def test_two_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = {name: {k: v for k, v in levers.LEVER_SETS[name].items() if k != "compile"} for name in levers.LEVER_SETS}
    monkeypatch.setattr(levers, "LEVER_SETS", sets)  # compiling takes a minute, and has tests of its own
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
    assert content["refused"] == {}
    for name in sets:
        assert measures[f"{name}: compute"]["p50"] >= measures[f"{name}: denoise"]["p50"] > 0
        assert content["probe"][name].keys() == {"background", "colour", "shape", "motion", "all four"}
        if name != "native":
            assert measures[f"{name} / native: compute"]["rounds"] == 2
            assert 0 < measures[f"{name} - native: latents, rms"]["p50"] < 0.1
            points = 100 * (content["probe"]["native"]["all four"] - content["probe"][name]["all four"])
            lost = measures[f"{name}: probe, all four lost"]
            assert lost["p50"] == pytest.approx(points) and lost["holds"] == (points <= lost["at_most"])
            paired = content["paired"][name]
            low, high = paired["interval_95"]
            assert paired["points_lost"] == pytest.approx(points) and low < points < high
    assert measures["float32 product, 32x48x64"]["p50"] > 0
    multiplied = int8_product_refusal(torch.device("cpu")) is None
    assert ("int8 product, 32x48x64" in measures) is multiplied


@pytest.mark.usefixtures("configs")
def test_processes_share_the_rounds() -> None:
    """Side by side they make what one makes: of the same seeds, so as far apart."""
    sets = {"native": {}, "int8 cache": {"frame_cache": "int8"}}
    task = levers.Task(64, 1, "cpu", sets, tuple(levers.held_out_scenes(3, 0)), threads=1)
    alone, found = levers.run(task), levers.shared(task, 2)
    name = ("int8 cache - native: latents, rms", "x")
    assert len(set(found.samples[name])) == 3
    assert found.samples[name] == pytest.approx(alone.samples[name], rel=1e-3)
    assert found.scores.shares() == alone.scores.shares()
    assert found.scores.paired()["int8 cache"].clips == 3


def test_a_set_that_cannot_be_is_left_out_with_the_reason(
    configs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from videosvc.families import block_levers

    monkeypatch.setattr(block_levers, "int8_refusal", lambda device: "cpu has no int8 matrix product")
    monkeypatch.setattr(levers, "LEVER_SETS", {"native": {}, "int8 weights": {"weights": "int8"}})
    path = tmp_path / "a.json"
    levers.main(["--rounds", "1", "--steps", "1", "--output", str(path)])
    content = json.loads(path.read_text())
    assert content["refused"]["int8 weights"].endswith("cpu has no int8 matrix product")
    assert content["probe"].keys() == {"native"} and content["paired"] == {}
    assert "no int8 matrix product" in capsys.readouterr().out

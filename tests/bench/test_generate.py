"""That the bench runs and measures what it says, on a tiny model. What it measures is no test's business."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from bench import generate
from bench.against_stock import JOB
from bench.processes import generate_peak_mib
from known_configs import known_configs
from tiny_model import make_tiny_checkpoint
from videosvc.bench.measure import Samples


@pytest.fixture(scope="module")
def tiny_configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped configuration, whose model toyworld is a tiny one of random weights."""
    folder = tmp_path_factory.mktemp("bench") / "configs"
    known_configs(folder)
    checkpoint = make_tiny_checkpoint(folder.parent / "tiny")
    models = folder / "models.toml"
    models.write_text(models.read_text().replace('"bundled:toyworld"', f'"{checkpoint}"'))
    return folder


def test_one_round(tiny_configs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEOSVC_CONFIG_DIR", str(tiny_configs))
    monkeypatch.setattr(generate, "PRESETS", ("balanced",))
    monkeypatch.setattr(generate, "MANY_STEPS", replace(JOB, steps=2, guidance_scale=3.0))
    for heavy in ("processes", "peak_memory"):  # have tests of their own below
        monkeypatch.setattr(generate, heavy, lambda *arguments: None)
    path = tmp_path / "a.json"
    generate.main(["--rounds", "1", "--output", str(path)])

    content = json.loads(path.read_text())
    assert content["machine"]["device"] == "cpu" and len(content["model"]["hash"]) > 8
    assert (content["seed"], content["rounds"]) == (JOB.seed, 1)
    median = {measure["name"]: measure["p50"] for measure in content["measures"]}
    stages = sum(median[f"2 s clip, balanced: {stage}"] for stage in ("text", "denoise", "decode", "mux"))
    assert median["2 s clip, balanced: compute"] == pytest.approx(stages, rel=1e-2)
    assert median["2 s clip, balanced: wall"] >= 0.99 * stages
    here, there = median["2 s at 128x128, 4 steps: ours"], median["2 s at 128x128, 4 steps: stock"]
    assert median["stock / ours"] == pytest.approx(there / here, rel=1e-2)
    assert median["ours - stock: latents, largest"] < 1e-5
    assert median["ours - stock: frames, largest"] <= 1
    assert median["2 s at 128x128, 2 steps with guidance: stock"] > 0


def test_cold_starts(tiny_configs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEOSVC_CONFIG_DIR", str(tiny_configs))
    samples: Samples = defaultdict(list)
    generate.processes(tmp_path, samples)
    assert (tmp_path / "cold.mp4").is_file()
    assert set(samples) == {("2 s clip, balanced: cold process", "s"), ("import videosvc.cli.main", "s")}


def test_peak_memory(tiny_configs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEOSVC_CONFIG_DIR", str(tiny_configs))
    ballast = bytearray(b"x") * 2**30  # this process's own peak must not show in its child's
    peak = generate_peak_mib("a red circle", tmp_path / "a.mp4", "--seconds", "0.5", "--size", "64x64")
    assert 100 < peak < len(ballast) / 2**20

    monkeypatch.setattr(generate, "generate_peak_mib", lambda *words: 100.0 * float(words[3]))
    samples: Samples = defaultdict(list)
    generate.peak_memory(tmp_path, "64x64", samples)
    assert samples["peak memory 64x64: 8 s / 2 s", "x"] == [4.0]

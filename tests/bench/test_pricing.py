"""That the bench foresees, runs and caps what it says, on a tiny model. What it measures is no test's business."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import pricing
from known_configs import known_configs
from tiny_model import make_tiny_checkpoint
from videosvc.config.models import load_model
from videosvc.config.request import Request, resolve_plan
from videosvc.config.settings import load_settings
from videosvc.engine.generate import Engine
from videosvc.pricing.cost_model import CostModel
from videosvc.pricing.shape import read_shape
from virtual_device import Clock, Rates, VirtualFamily, no_ffmpeg


def test_a_few_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "configs"
    known_configs(folder)
    models = folder / "models.toml"
    checkpoint = make_tiny_checkpoint(tmp_path / "tiny")
    models.write_text(models.read_text().replace('"bundled:toyworld"', f'"{checkpoint}"'))
    monkeypatch.setenv("VIDEOSVC_CONFIG_DIR", str(folder))
    monkeypatch.setattr("videosvc.pricing.calibrate.ROUNDS", 1)
    path = tmp_path / "a.json"
    pricing.main(["--jobs", "5", "--output", str(path)])
    measures = {measure["name"]: measure for measure in json.loads(path.read_text())["measures"]}
    assert set(pricing.AT_MOST) <= set(measures)
    assert len(measures["relative error: corrected"]["samples"]) == 5
    (own_spread,) = measures["machine's own spread"]["samples"]  # of the one job in ten that runs twice
    assert own_spread > 0
    assert len(measures["capped jobs: compute over cap"]["samples"]) == 2  # of the first and the fifth, stopped or not


@pytest.mark.parametrize(
    ("stalled", "beyond"),
    [("nothing", False), ("closing", False), ("denoise", True)],  # closing the file is on the house, by design
)
def test_a_job_is_beyond_its_cap_by_what_it_ran_not_by_what_it_was_charged(
    stalled: str, beyond: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = known_configs(tmp_path / "configs")
    entry = load_model(folder, "toyworld")
    plan = resolve_plan(Request("a red ball", seed=1), folder, load_settings(folder)).plan
    rates = Rates(text=0.05, forward=0.1, decode=0.05, write=0.01, finish=0.05)
    family = VirtualFamily(Clock(), rates, read_shape(entry).spec)
    no_ffmpeg(monkeypatch, family)
    model, results, file = CostModel(tmp_path, "cpu"), pricing.Results(), tmp_path / "clip.mp4"
    max_s = model.estimate(plan, entry).needed_s
    pieces = {"nothing": 10**6, "closing": 14, "denoise": 2}  # a text, 4 steps, an append, a decoding, a muxing; ...
    family.clock.stalls[pieces[stalled]] = 100 * max_s
    pricing.run_capped(Engine(family, family.clock), entry, plan, model, max_s, file, results)
    assert results.beyond_cap == [beyond] and results.used[0] <= 1.0


def test_a_machine_whose_own_runs_differ_is_held_to_what_a_noisy_one_is() -> None:
    def limit(*own_spread: float) -> float | None:
        results = pricing.Results(own_spread=list(own_spread), planning_ms={"a": [1.0]})
        for errors, beyond in zip(results.errors.values(), results.beyond.values(), strict=True):
            errors.append(0.1)
            beyond.append(False)
        return {measure.name: measure.at_most for measure in results.measures(1.0)}["relative error: corrected"]

    assert limit() == limit(0.01, 0.02, 0.5) == 0.08
    assert limit(0.01, 0.12, 0.5) == 0.15

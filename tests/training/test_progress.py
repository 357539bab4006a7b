from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from training.toyworld import progress
from training.toyworld.progress import Stage, beneath, learning_rate


class Clock:
    """Stands in for the module `time`: every look at it takes a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def train(stage: Stage, model: nn.Linear) -> list[float]:
    """One second and one addition a step."""
    seen = []
    for step, done in stage:
        assert step == stage.step
        with torch.no_grad():
            model.weight.add_(1)
        stage.log(loss=float(step))
        seen.append(done)
    return seen


def zeros() -> nn.Linear:
    model = nn.Linear(2, 2)
    nn.init.zeros_(model.weight)
    return model


def test_a_stage_keeps_to_its_budget(tmp_path: Path) -> None:
    model = zeros()
    stage = Stage(tmp_path, "some", 10.0, {"model": model})
    assert train(stage, model) == [i / 10 for i in range(10)]
    assert (stage.step, stage.spent_s) == (10, 10.0)


def test_a_stage_goes_on_where_it_was(tmp_path: Path) -> None:
    first = zeros()
    train(Stage(tmp_path, "some", 10.0, {"model": first}), first)
    second = zeros()
    stage = Stage(tmp_path, "some", 15.0, {"model": second})
    assert (stage.step, stage.spent_s) == (10, 10.0) and torch.equal(second.weight, first.weight)
    assert train(stage, second) == [i / 15 for i in range(10, 15)]
    assert second.weight.eq(15).all()


def test_a_finished_stage_does_nothing_again(tmp_path: Path) -> None:
    model = zeros()
    train(Stage(tmp_path, "some", 5.0, {"model": model}), model)
    again = zeros()
    assert train(Stage(tmp_path, "some", 5.0, {"model": again}), again) == []
    assert again.weight.eq(5).all()


def test_an_interrupted_stage_loses_minutes_at_most(tmp_path: Path) -> None:
    model = zeros()
    for step, _ in Stage(tmp_path, "some", 1000.0, {"model": model}):
        with torch.no_grad():
            model.weight.add_(1)
        if step == 400:
            break
    after = zeros()
    stage = Stage(tmp_path, "some", 1000.0, {"model": after})
    assert 400 - 185 <= stage.step <= 400 and after.weight.eq(stage.step).all()


def test_lines_hold_averages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = zeros()
    train(Stage(tmp_path, "some", 100.0, {"model": model}), model)
    lines = [json.loads(line) for line in (tmp_path / "some.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines][-1] == 100
    first = lines[0]["step"]
    assert lines[0]["loss"] == pytest.approx((first - 1) / 2)
    assert capsys.readouterr().out.count("some {") == len(lines)


def test_the_learning_rate_warms_up_and_cools_down() -> None:
    assert learning_rate(0.0, 1.0, 0) == pytest.approx(0.01)
    assert learning_rate(0.3, 1.0, 1000) == 1.0
    assert learning_rate(0.8, 1.0, 1000) == pytest.approx(0.5)
    assert learning_rate(1.0, 1.0, 1000) == pytest.approx(0.02)


def test_what_is_made_with_other_weights_has_another_folder(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    folder = beneath(tmp_path, model)
    assert folder.is_dir() and folder == beneath(tmp_path, copy.deepcopy(model))
    with torch.no_grad():
        model.bias += 1
    assert beneath(tmp_path, model) != folder

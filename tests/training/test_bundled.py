"""The model that ships: what is said of it was measured on these very weights, and is good enough."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from training.toyworld.card import card
from training.toyworld.evaluate import BUNDLED
from videosvc.bench.rows import LADDER, STOCK
from videosvc.config.models import load_model
from videosvc.config.quality import load_quality
from videosvc.pricing.shape import read_shape

ROOT = Path(__file__).parents[2]
SHARES = ("background", "colour", "shape", "motion", "all_four")


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((BUNDLED / "probe.json").read_text())
    return found


def row(measured: dict[str, Any], what: str, size: int = 64, seconds: int = 2) -> dict[str, float]:
    (found,) = (row for row in measured["rows"] if (row["what"], row["size"], row["seconds"]) == (what, size, seconds))
    return {name: found[name] for name in SHARES}


def test_tables_are_of_the_weights_that_ship(measured: dict[str, Any]) -> None:
    model_hash = read_shape(load_model(ROOT / "configs", "toyworld")).model_hash
    table = load_quality(ROOT / "configs", "toyworld")
    assert table is not None and table.sweep is not None
    assert measured["model_hash"] == table.sweep.model_hash == model_hash
    benches = [json.loads(file.read_text()) for file in (ROOT / "bench" / "results").glob("*.json")]
    hashes = [bench["model"]["hash"] for bench in benches if "model" in bench]
    assert len(hashes) >= 3 and set(hashes) == {model_hash}


def test_the_readme_has_the_waterfall_that_was_measured() -> None:
    found = json.loads((ROOT / "bench" / "results" / "levers-cpu.json").read_text())
    readme = (ROOT / "README.md").read_text()
    assert [line["name"] for line in found["rows"]] == [STOCK, *(row.name for row in LADDER)]
    for line in found["rows"]:
        cells = [line["name"], f"{line['compute_seconds_per_second']['p50']:.3g}"]
        for ratio, digits in (("cheaper_than_stock", 1), ("gain_of_this_lever", 2)):
            cells.append("" if line[ratio] is None else f"{line[ratio]['p50']:.{digits}f}x")
        cells.append(f"{round(line['probe_all_four'] * line['probe_clips'])}")
        assert f"| {' | '.join(cells)} |" in readme, cells


def test_four_steps_show_what_was_asked_for_and_one_is_not_far_behind(measured: dict[str, Any]) -> None:
    floors = {"background": 0.95, "colour": 0.95, "shape": 0.85, "motion": 0.85, "all_four": 0.75}
    four, one = row(measured, "4 steps"), row(measured, "1 step")
    assert {name: four[name] for name, floor in floors.items() if four[name] < floor} == {}
    assert one["all_four"] >= four["all_four"] - 0.15


def test_fewer_steps_after_the_first_chunk_are_told_of_as_measured(measured: dict[str, Any]) -> None:
    texts = (ROOT / "README.md").read_text(), (ROOT / "docs" / "architecture.md").read_text()
    readme, architecture = (" ".join(text.split()) for text in texts)
    all_steps, later = row(measured, "4 steps"), row(measured, "4 steps, 1 after the first chunk")
    told = f"{later['all_four']:.1%} at 1 after the first chunk".replace("%", " %")
    assert told in readme and later["all_four"] > all_steps["all_four"] - 0.02
    names = ("4 steps", "4 steps, 2 after the first chunk", "4 steps, 1 after the first chunk")
    four, two, one = (row(measured, name, seconds=8) for name in names)
    shape = [f"{100 * each['shape']:.0f}" for each in (four, two, one)]
    right = [f"{100 * each['all_four']:.0f}" for each in (four, two, one)]
    assert "the shape was right in {} at 4 and 4, {} at 4 and 2, {} at 4 and 1".format(*shape) in architecture
    assert "all four in {}, {} and {}".format(*right) in architecture


def test_the_card_is_what_was_measured(measured: dict[str, Any]) -> None:
    assert card(BUNDLED, measured["rows"]) == (BUNDLED / "README.md").read_text()


def test_the_readme_says_what_was_measured(measured: dict[str, Any]) -> None:
    text = (ROOT / "README.md").read_text()
    for what, size in (("1 step", 64), ("4 steps", 64), ("8 steps", 64), ("4 steps", 96), ("4 steps", 128)):
        shares = " | ".join(f"{100 * share:.4g} %" for share in row(measured, what, size).values())
        assert f"| {what}, {size}x{size} | {shares} |" in text

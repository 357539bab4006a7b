from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from videosvc.cli.main import run
from videosvc.config.presets import load_preset_file
from videosvc.families import block_levers

PROMPT = "a red circle moves left"
GRID = ["--sizes", "64x64,96x64", "--steps", "1,2", "--frame-caches", "native"]


@pytest.fixture
def configs(tiny_configs: Path) -> Path:
    """The reference in few steps, and small."""
    file = tiny_configs / "presets" / "reference.toml"
    file.write_text(file.read_text().replace("steps = 50", "steps = 3").replace("128x128", "64x64"))
    return tiny_configs


@pytest.fixture
def words(configs: Path, tmp_path: Path) -> list[str]:
    """A sweep of seconds."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text(f"{PROMPT}\n")
    tail = ["--seconds", "0.5", "--clips", "2", "--prompts", str(prompts), "-o", str(tmp_path / "tune")]
    return ["tune", *GRID, *tail]


def test_from_a_sweep_to_quotes_and_a_preset(
    words: list[str], configs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_levers, "bfloat16_refusal", lambda device: None)  # every CPU can, some slowly
    assert run([*words, "--at-least", "0.1", "--name", "thrifty", "--json"]) == 0
    out, err = capfd.readouterr()
    answer = json.loads(out)
    assert err == ""
    folder = tmp_path / "tune"
    assert sorted(file.name for file in folder.iterdir()) == ["frontier.png", "quality.json", "thrifty.toml"]
    assert answer["files"] == [str(folder / name) for name in ("quality.json", "frontier.png", "thrifty.toml")]
    assert answer["sweep"]["score"] == "reference" and answer["sweep"]["clips"] == 2
    assert answer["reference"]["quality"] == 1.0
    assert answer["chosen"] in answer["frontier"]
    prices = [point["price_usd"] for point in answer["frontier"]]
    worth = [point["quality"] for point in answer["frontier"]]
    assert prices == sorted(prices) and worth == sorted(worth)

    table = json.loads((folder / "quality.json").read_text())
    assert len(table["points"]) == 2 * 4 * 2 + 2  # weights too, and a reference for each size
    assert sum(point["frontier"] for point in table["points"]) == len(answer["frontier"])
    with Image.open(folder / "frontier.png") as picture:
        assert picture.size == (1000, 625) and len(picture.convert("RGB").getcolors(10**6) or []) > 20

    assert run(["presets", "check", str(folder / "thrifty.toml")]) == 0
    preset = load_preset_file(folder / "thrifty.toml")
    assert (preset.quality.size, preset.quality.steps) == (answer["chosen"]["size"], answer["chosen"]["steps"])

    shutil.copy(folder / "thrifty.toml", configs / "presets")
    (configs / "quality").mkdir()
    shutil.copy(folder / "quality.json", configs / "quality" / "toyworld.json")
    capfd.readouterr()
    assert run(["quote", PROMPT, "--preset", "thrifty", "--json"]) == 0
    quote = json.loads(capfd.readouterr().out)
    assert quote["quality_measured"] is True
    assert quote["expected_quality"] >= round(answer["chosen"]["quality"], 4)

    _chooses_anew(folder / "quality.json", tmp_path / "again", answer, capfd)


def _chooses_anew(table: Path, folder: Path, answer: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    """From the table, and as the sweep did where it is asked for the same."""
    chosen = ["tune", "--from", str(table), "-o", str(folder), "--json"]
    assert run([*chosen, "--at-least", "0.1", "--name", "thrifty"]) == 0
    again = json.loads(capfd.readouterr().out)
    assert again["files"] == [str(folder / name) for name in ("frontier.png", "thrifty.toml")]
    for key in ("sweep", "frontier", "reference", "target", "chosen"):
        assert again[key] == answer[key], key

    best = ["--at-least", "1", "--of", "best", "--weights", "native", "--name", "best", "--description", "none better"]
    assert run([*chosen, *best]) == 0
    found = json.loads(capfd.readouterr().out)["chosen"]
    there = [point for point in json.loads(table.read_text())["points"] if point["weights"] == "native"]
    assert found["quality"] == max(point["quality"] for point in there if point["sampler"] == "flow_map")
    made = load_preset_file(folder / "best.toml")
    assert made.levers.weights == "native" and made.preset.description.endswith(" of flow_map; none better")

    euler = ["--samplers", "euler", "--sizes", "96x64", "--at-least", "0.1", "--name", "many"]
    assert run([*chosen, *euler, "--preset", "reference"]) == 0
    made = load_preset_file(folder / "many.toml")
    assert (made.quality.size, made.quality.steps, made.quality.sampler) == ("96x64", 3, "euler")
    capfd.readouterr()
    for options, says in (
        (["--clips", "3"], "--clips: goes not together with --from"),
        (["--steps", "7"], "--steps: '7' was not measured; there are 1, 2"),
        (["--model", "sora"], "is of model 'toyworld'"),
        (["--of", "all"], "--of: 'all' is not one of reference, best"),
        (["--under", "1e-12"], f"; see {table}"),
    ):
        assert run([*chosen, *options]) == 2
        err = capfd.readouterr().err
        assert says in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{}", "model: is missing"),
        ("nonsense", "Invalid JSON"),
        ('{"model": "toyworld", "points": []}', "was written by hand: it has no sweep"),
    ],
)
def test_a_table_that_nothing_can_be_chosen_from(
    configs: Path, content: str, says: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "quality.json"
    table.write_text(content)
    assert run(["tune", "--from", str(table), "-o", str(tmp_path / "tune")]) == 2
    err = capfd.readouterr().err
    assert err.startswith("error: --from: ") and says in err and len(err.splitlines()) == 1
    assert not (tmp_path / "tune").exists()


def test_a_table_of_other_weights_is_told(configs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    point = {
        "size": "64x64", "steps": 4, "sampler": "euler", "weights": "native", "frame_cache": "native", "quality": 0.5,
        "compute_s": {"p20": 1, "p50": 1, "p80": 1}, "price_usd": 1e-5,
    }  # fmt: skip
    sweep = {
        "score": "probe", "method": "share", "reference": "64x64, 4 steps of euler", "reference_quality": 0.5,
        "clips": 3, "seconds": 2.0, "seed": 0, "device": "cpu", "usd_per_hour": 0.1, "margin": 0.3, "versions": {},
        "model_hash": "of an earlier training", "measured_at": 1.0,
    }  # fmt: skip
    table = tmp_path / "quality.json"
    few = {**point, "steps": 1, "sampler": "flow_map"}
    table.write_text(json.dumps({"model": "toyworld", "sweep": sweep, "points": [point, few]}))
    assert run(["tune", "--from", str(table), "-o", str(tmp_path / "tune")]) == 0
    out, err = capfd.readouterr()
    assert err == f"note: {table} was measured on other weights of model 'toyworld'\n"
    assert "preset tuned (0.98 of the reference's quality): 64x64, 1 step of flow_map" in out


def test_for_people_without_matplotlib(
    words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith(("matplotlib", "videosvc.pricing.frontier_plot"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run([*words, "--weights", "native", "--steps", "1", "--under", "1", "--fps", "8,4"]) == 0
    out, err = capfd.readouterr()
    assert err == "note: no frontier.png without matplotlib: pip install 'videosvc[plot]'\n"
    assert "preset tuned (under 1.0 USD a second): " in out and "reference" in out and "chosen" in out
    points = json.loads((tmp_path / "tune" / "quality.json").read_text())["points"]
    assert sorted({point["fps"] for point in points}) == [4, 8]
    assert sorted(file.name for file in (tmp_path / "tune").iterdir()) == ["quality.json", "tuned.toml"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--under", "1e-12"], "error: --under: nothing is so cheap; the cheapest is 0."),
        (["--at-least", "1"], "error: --at-least: nothing reaches 1.000, 1 of the reference's quality (1.000); the be"),
    ],
)
def test_what_cannot_be_reached_keeps_what_was_measured(
    words: list[str], options: list[str], says: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    quick = [*words, "--weights", "native", "--steps", "1", "--clips", "1"]
    assert run([*quick, *options]) == 2
    err = capfd.readouterr().err
    assert err.startswith(says) and err.endswith("quality.json\n") and len(err.splitlines()) == 1
    assert sorted(file.name for file in (tmp_path / "tune").iterdir()) == ["frontier.png", "quality.json"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--model", "sora"], "--model: 'sora' is unknown"),
        (["--preset", "tiled"], "--preset: 'tiled' has decode='tiled', which is not swept and changes clips"),
        (["--preset", "ultra"], "--preset: 'ultra' is unknown"),
        (["--sizes", "60x60"], "--sizes: 60x60: model 'toyworld': width and height must be multiples of 16"),
        (["--steps", "many"], "--steps: 'many' must be a whole number from 1 to 200"),
        (["--weights", "fp4"], "--weights: lever weights='fp4' is not available yet"),
        (["--frame-caches", "int2"], "--frame-caches: lever frame_cache='int2' is not available yet"),
        (["--samplers", "ddim"], "--samplers: 'ddim' is not one of"),
        (["--fps", "0"], "--fps: '0' must be a whole number"),
        (["--clips", "0"], "--clips: 0 must be from 1 to 10000"),
        (["--seconds", "nan"], "--seconds: nan must be at least 0.125"),
        (["--seed", "-1"], "--seed: -1 must be from 0"),
        (["--score", "beauty"], "--score: 'beauty' is not one of probe, reference, clip"),
        (["--score", "probe"], "--score: the probe cannot read model 'toyworld'"),
        (["--clip-model", "/nowhere"], "--clip-model: '/nowhere' is no folder of a CLIP model"),
        (["--at-least", "1.5"], "--at-least: 1.5 must be more than 0 and at most 1"),
        (["--under", "0"], "--under: 0 must be more than 0"),
        (["--name", "A/b"], "--name: 'A/b' must be"),
        (["--prompts", "/nowhere"], "--prompts: '/nowhere' cannot be read"),
        (["-o", "/dev/null/x"], "-o: '/dev/null' is not a folder"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_loaded(
    options: list[str], says: str, words: list[str], configs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = (configs / "presets" / "balanced.toml").read_text().replace('"balanced"', '"tiled"')
    (configs / "presets" / "tiled.toml").write_text(text.replace('"stream"', '"tiled"'))
    assert run([*words, *options]) == 2
    err = capfd.readouterr().err
    assert says in err and len(err.splitlines()) == 1
    assert not (tmp_path / "tune").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "holds no prompt"),
        ("x" * 501, ": has 501 characters; at most 500 are allowed"),
        (f"{PROMPT} " * 9, ": 46 tokens; the model reads at most 12"),
    ],
)
def test_prompts_are_checked_first(
    content: str, says: str, words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prompts.txt").write_text(content)
    assert run([*words, "--weights", "native"]) == 2
    err = capfd.readouterr().err
    assert err.startswith("error: --prompts: '") and says in err and len(err.splitlines()) == 1
    assert not (tmp_path / "tune").exists()


def test_a_free_device_has_no_frontier(words: list[str], configs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    devices = configs / "devices.toml"
    devices.write_text(devices.read_text().replace("usd_per_hour = 0.1", "usd_per_hour = 0"))
    assert run(words) == 2
    assert "devices.toml: 'cpu' costs nothing" in capfd.readouterr().err

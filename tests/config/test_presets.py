from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from videosvc.config.models import ModelEntry
from videosvc.config.presets import Levers, SamplerName, load_preset, load_preset_file, load_presets
from videosvc.config.settings import CHECKOUT_CONFIGS
from videosvc.errors import PresetError
from videosvc_samplers.registry import SAMPLERS

GOOD = """
[preset]
name = "mine"
description = "as the contract writes it"
[quality]
size = "128x128"
fps = 8
steps = 4
sampler = "flow_map"
[levers]
weights = "int8"
frame_cache = "int8"
decode = "stream"
compile = true
[cap]
max_compute_seconds_per_second = 2.0
max_cost_usd = 0.05
trade = ["size", "steps", "fps"]
[price]
margin = 0.3
"""


def _write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_the_shipped_presets() -> None:
    presets = load_presets(CHECKOUT_CONFIGS)
    assert list(presets) == ["balanced", "draft", "quality", "reference"]
    assert all(preset.levers.refusals("anyflow_far") == [] for preset in presets.values())
    assert presets["reference"].quality.sampler == "euler"
    assert presets["reference"].quality.steps > max(presets[name].quality.steps for name in ("draft", "quality"))


def test_a_preset_as_the_contract_writes_it(tmp_path: Path) -> None:
    preset = load_preset_file(_write(tmp_path, GOOD))
    assert preset.levers == Levers(weights="int8", frame_cache="int8", decode="stream", compile=True)
    assert preset.cap.trade == ("size", "steps", "fps")


def test_levers_that_make_no_sense_are_refused_with_what_does() -> None:
    levers = Levers(weights="fp8", frame_cache="off")
    assert levers.refusals("anyflow_far") == [
        "lever frame_cache='off' makes no sense for family anyflow_far (every step of a chunk reads those before it: "
        "without a cache it would encode them anew, for the same clip): allowed native, int8, int4",
    ]


def test_each_lever_of_a_model_is_refused_once(tmp_path: Path) -> None:
    entry = ModelEntry(name="film", path=str(tmp_path), family="wan", sizes=("64x64",))
    mag = Levers(step_cache="mag")
    assert ["mag_ratios" in line for line in mag.refusals_of(entry)] == [True]
    assert mag.refusals_of(entry.model_copy(update={"mag_ratios": (1.0,)})) == []
    (compiled,) = Levers(step_cache="sea", compile=True).refusals_of(entry)
    assert compiled.startswith("lever step_cache='sea' cannot be with compile=true")
    (tiny,) = Levers(decode="tiny").refusals_of(entry)
    assert tiny == "lever decode='tiny' cannot be: model 'film' has no folder tiny_decoder"
    causal = entry.model_copy(update={"family": "anyflow_far"})
    (never,) = mag.refusals_of(causal)
    assert "makes no sense for family anyflow_far" in never


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"128x128"', '"128"', "quality.size = '128': must be WIDTHxHEIGHT"),
        ("fps = 8", "fps = 0", "quality.fps = 0: must be greater than or equal to 1"),
        ("steps = 4", "steps = 1000", "quality.steps = 1000: must be less than or equal to 200"),
        ("steps = 4", "", "quality.steps: is missing"),
        (
            '"flow_map"',
            '"ddim"',
            "quality.sampler = 'ddim': must be 'flow_map', 'draft', 'euler', 'unipc' or 'consistency'",
        ),
        (
            'weights = "int8"',
            'weights = "itn8"',
            "levers.weights = 'itn8': must be 'native', 'bf16', 'int8' or 'fp8'",
        ),
        ("max_cost_usd = 0.05", "max_cost_usd = -1", "cap.max_cost_usd = -1: must be greater than or equal to 0.00000"),
        ("max_cost_usd = 0.05", "max_cost_usd = 1e20", "cap.max_cost_usd = 1e+20: must be less than or equal to 1"),
        ("max_cost_usd = 0.05", "max_cost_usd = nan", "cap.max_cost_usd = nan: must be a finite number"),
        (
            '["size", "steps", "fps"]',
            '["seconds"]',
            "cap.trade.0 = 'seconds': must be 'size', 'steps', 'fps', 'weights' or 'frame_cache'",
        ),
        ('["size", "steps", "fps"]', '["size", "size"]', "weights, frame_cache may stand there once"),
        ("margin = 0.3", "margni = 0.3", "price.margni: unknown key; allowed here: margin"),
        ('name = "mine"', 'name = "yours"', "preset.name = 'yours': must be 'mine', the name of its file"),
    ],
)
def test_a_mistake_names_file_key_value_and_what_is_allowed(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in GOOD
    path = _write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(PresetError) as caught:
        load_preset_file(path)
    assert str(path) in caught.value.message
    assert says in caught.value.message


def test_an_unknown_preset_lists_those_there_are() -> None:
    with pytest.raises(PresetError, match=r"'\.\./x' is unknown; there are balanced, draft, quality, reference"):
        load_preset(CHECKOUT_CONFIGS, "../x")


def test_a_broken_preset_does_not_hurt_its_neighbour(tmp_path: Path) -> None:
    presets = tmp_path / "presets"
    presets.mkdir()
    _write(presets, GOOD)
    (presets / "broken.toml").write_text("nonsense")
    assert load_preset(tmp_path, "mine").name == "mine"


def test_the_schema_knows_every_sampler() -> None:
    assert set(get_args(SamplerName)) == {*SAMPLERS, "draft"}  # which needs more than a name


def test_later_chunks_may_take_fewer_steps(tmp_path: Path) -> None:
    fewer = GOOD.replace('sampler = "flow_map"', 'sampler = "flow_map"\nlater_steps = 2')
    preset = load_preset_file(_write(tmp_path, fewer))
    assert preset.quality.later_steps == 2 and load_preset_file(_write(tmp_path, GOOD)).quality.later_steps is None
    whole = ModelEntry(name="film", path="film", family="wan", sizes=("64x64",))
    assert preset.refusals_of(whole)[-1].startswith("later_steps: does nothing for family wan")
    for old, new, says in (
        ("later_steps = 2", "later_steps = 9", "quality.later_steps = 9: must be at most steps, 4"),
        ("later_steps = 2", "later_steps = 0", "quality.later_steps = 0: must be greater than or equal to 1"),
        ('"flow_map"', '"draft"\ndraft_threshold = 0.2', "later_steps = 2: is not allowed with sampler = 'draft'"),
    ):
        with pytest.raises(PresetError, match=re.escape(says)):
            load_preset_file(_write(tmp_path, fewer.replace(old, new)))


DRAFT = GOOD.replace('sampler = "flow_map"', 'sampler = "draft"\ndraft_threshold = 0.2')


def test_a_draft_has_a_threshold(tmp_path: Path) -> None:
    assert load_preset_file(_write(tmp_path, DRAFT)).quality.draft_threshold == 0.2
    assert load_preset_file(_write(tmp_path, GOOD)).quality.draft_threshold is None


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("draft_threshold = 0.2", "", "draft_threshold = None: must be a number above 0 and at most 1 with sampler"),
        ("0.2", "0", "quality.draft_threshold = 0: must be greater than 0"),
        ("0.2", "1.5", "quality.draft_threshold = 1.5: must be less than or equal to 1"),
        ("steps = 4", "steps = 3", "quality.steps = 3: must be even with sampler = 'draft'"),
        ('"draft"', '"flow_map"', "quality.draft_threshold = 0.2: is allowed with sampler = 'draft' only"),
    ],
)
def test_a_draft_that_cannot_be_is_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(PresetError) as caught:
        load_preset_file(_write(tmp_path, DRAFT.replace(old, new)))
    assert says in caught.value.message

from __future__ import annotations

from pathlib import Path

import pytest

from videosvc.config.models import ModelEntry
from videosvc.config.presets import Preset, load_preset
from videosvc.config.settings import CHECKOUT_CONFIGS
from videosvc.errors import UserError
from videosvc.pricing.output_folder import check_folder, write_files
from videosvc.pricing.prompts import read_prompts
from videosvc.pricing.setting import Grid

BALANCED = load_preset(CHECKOUT_CONFIGS, "balanced")  # whatever it asks for


def test_by_default_it_is_all_that_the_model_can(entry: ModelEntry) -> None:
    grid = Grid.parse(entry, BALANCED)
    assert [str(size) for size in grid.sizes] == list(entry.sizes)
    assert (grid.rates, grid.steps, grid.samplers) == ((8,), (1, 2, 4, 8), ("flow_map",))
    assert (grid.weights, grid.frame_caches) == (("native", "bf16", "int8", "fp8"), ("native", "int8", "int4"))
    assert len(set(grid.settings())) == 3 * 4 * 4 * 3


def test_what_makes_the_same_clips_is_swept_once(entry: ModelEntry) -> None:
    assert Grid.parse(entry, BALANCED, bf16_is_native=True).weights == ("native", "int8", "fp8")
    film = entry.model_copy(update={"family": "wan"})
    assert Grid.parse(film, BALANCED).frame_caches == ("native",)
    assert Grid.parse(film, BALANCED, frame_caches="off").frame_caches == ("off",)
    with pytest.raises(UserError, match="frame_caches: all are one to family wan; name one"):
        Grid.parse(film, BALANCED, frame_caches="native,off")


@pytest.mark.parametrize(("lever", "value"), [("decode", "tiny"), ("decode", "tiled"), ("step_cache", "mag")])
def test_what_a_table_cannot_say_is_no_base(entry: ModelEntry, lever: str, value: str) -> None:
    base = BALANCED.model_copy(update={"levers": BALANCED.levers.model_copy(update={lever: value})})
    with pytest.raises(UserError, match=f"preset: 'balanced' has {lever}='{value}', which is not swept") as refused:
        Grid.parse(entry, base)
    assert refused.value.param == "preset"


def reference(size: str) -> Preset:
    asked = {"size": size, "steps": 50, "sampler": "euler"}
    return BALANCED.model_copy(update={"quality": BALANCED.quality.model_copy(update=asked)})


@pytest.mark.parametrize(
    ("own", "last"), [("64x64", "64x64"), ("96x96", "96x96"), ("128x128", "128x128"), ("832x480", "128x128")]
)
def test_references_are_at_every_size_the_presets_own_last(entry: ModelEntry, own: str, last: str) -> None:
    grid = Grid.parse(entry, BALANCED, sizes="128x128,64x96,64x64", fps="4,16", weights="int8")
    references = grid.references(reference(own), entry)
    sizes = [str(one.size) for one in references]
    assert sizes[-1] == last and {*sizes} == {"64x64", "64x96", "128x128", last} and len({*sizes}) == len(sizes)
    assert {(one.fps, one.steps, one.weights, one.frame_cache) for one in references} == {(16, 50, "native", "native")}


@pytest.mark.parametrize(
    ("field", "text", "says"),
    [
        ("sizes", "64x64,64", "sizes: '64' must be WIDTHxHEIGHT in pixels"),
        ("sizes", "16x16", "sizes: 16x16: model 'toyworld': width and height must be multiples of 16 from 64 to 128"),
        ("sizes", "", "sizes: '' must be a list"),
        ("steps", "1,0", "steps: '0' must be a whole number from 1 to 200"),
        ("steps", "1,,2", "steps: '1,,2' must be a list"),
        ("steps", "²", "steps: '²' must be a whole number"),
        ("steps", "9" * 5000, "must be a whole number"),
        ("fps", "17", "fps: '17' must be a whole number from 1 to 16"),
        ("samplers", "ddim", "samplers: 'ddim' is not one of flow_map, "),
        ("weights", "native,fp4", "weights: lever weights='fp4' is not available yet for family anyflow_far"),
        ("frame_caches", "off", "frame_caches: lever frame_cache='off' makes no sense"),
    ],
)
def test_what_cannot_be_swept_is_named(entry: ModelEntry, field: str, text: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        Grid.parse(entry, BALANCED, **{field: text})  # type: ignore[arg-type]
    assert says in caught.value.message and caught.value.param == field


def test_drafts_take_the_presets_threshold_and_an_even_number_of_steps(entry: ModelEntry) -> None:
    quality = BALANCED.quality.model_copy(update={"sampler": "draft", "draft_threshold": 0.2})
    drafting = BALANCED.model_copy(update={"quality": quality})
    grid = Grid.parse(entry, drafting, steps="1,4", samplers="draft,flow_map")
    found = {(one.sampler, one.steps, one.draft_threshold) for one in grid.settings()}
    assert found == {("draft", 4, 0.2), ("flow_map", 1, None), ("flow_map", 4, None)}
    with pytest.raises(UserError, match="steps: none is even"):
        Grid.parse(entry, drafting, steps="1,3")
    with pytest.raises(UserError, match="samplers: draft needs a preset that has a draft_threshold"):
        Grid.parse(entry, BALANCED, samplers="draft")


def test_steps_of_later_chunks_are_swept_where_they_are_fewer(entry: ModelEntry) -> None:
    native = {"sizes": "64x64", "weights": "native", "frame_caches": "native"}
    grid = Grid.parse(entry, BALANCED, **native, steps="1,4", later_steps="all,2,8")
    assert [(one.steps, one.later_steps) for one in grid.settings()] == [(1, None), (4, None), (4, 2)]
    assert str(grid.settings()[-1]) == "64x64, 4 steps of flow_map, 2 after the first chunk"
    assert [one.steps_told for one in grid.settings()] == ["1", "4", "4, then 2"]
    with pytest.raises(UserError, match="later_steps: 'some' must be a whole number"):
        Grid.parse(entry, BALANCED, later_steps="some")


def test_prompts_are_one_a_line(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a red ball\n\n  größer 🎈  \n", encoding="utf-8")
    assert read_prompts(file) == ("a red ball", "größer 🎈")


@pytest.mark.parametrize(
    ("content", "says"), [(b"", "holds no prompt"), (b"\n \n", "holds no prompt"), (b"\xff\xfe", "is not UTF-8 text")]
)
def test_prompts_that_cannot_be(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes(content)
    with pytest.raises(UserError, match=f"prompts: .*{says}"):
        read_prompts(file)
    with pytest.raises(UserError, match="cannot be read: "):
        read_prompts(tmp_path)


def test_files_come_whole_into_a_folder_that_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert check_folder(folder) == folder and not folder.exists()
    write_files(folder, {"x.json": b"1", "y": b"2"})
    write_files(folder, {"x.json": b"3"})
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {"x.json": b"3", "y": b"2"}


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for place in (file, file / "below"):
        with pytest.raises(UserError, match=r"output: .* is not a folder"):
            check_folder(place)
    with pytest.raises(UserError, match="output: "):
        check_folder(tmp_path / ("n" * 300))

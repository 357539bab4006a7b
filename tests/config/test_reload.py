from __future__ import annotations

from pathlib import Path

import pytest

from known_configs import known_configs
from videosvc.config.models import load_model
from videosvc.config.presets import load_preset, load_presets
from videosvc.config.quality import load_quality
from videosvc.config.reload import LiveConfig
from videosvc.errors import ConfigError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return known_configs(tmp_path / "source")


@pytest.fixture
def live(source: Path, tmp_path: Path) -> LiveConfig:
    folder = tmp_path / "live"
    folder.mkdir()
    return LiveConfig(source, folder)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_starts_as_the_folder_is(live: LiveConfig, source: Path) -> None:
    assert load_presets(live.folder) == load_presets(source)
    assert load_model(live.folder, "toyworld").sizes == load_model(source, "toyworld").sizes


def test_an_edit_counts(live: LiveConfig, source: Path) -> None:
    edit(source / "presets" / "draft.toml", "steps = 2", "steps = 1")
    assert not live.refresh()
    assert load_preset(live.folder, "draft").quality.steps == 1


def test_a_broken_file_leaves_the_last_good_one_serving(live: LiveConfig, source: Path) -> None:
    before = load_preset(live.folder, "draft")
    edit(source / "presets" / "draft.toml", "steps = 2", "steps = -2")
    edit(source / "presets" / "quality.toml", "steps = 8", "steps = 6")
    for _ in range(2):  # it is told as long as it is so
        problems = live.refresh()
        assert list(problems) == ["presets/draft.toml"]
        assert str(source / "presets" / "draft.toml") in problems["presets/draft.toml"]
        assert "quality.steps = -2" in problems["presets/draft.toml"]
    assert load_preset(live.folder, "draft") == before
    assert load_preset(live.folder, "quality").quality.steps == 6

    edit(source / "presets" / "draft.toml", "steps = -2", "steps = 3")
    assert not live.refresh()
    assert load_preset(live.folder, "draft").quality.steps == 3


@pytest.mark.parametrize("name", ["models.toml", "devices.toml"])
def test_the_other_files_too(live: LiveConfig, source: Path, name: str) -> None:
    before = (live.folder / name).read_text()
    (source / name).write_text("nonsense = [")
    assert list(live.refresh()) == [name]
    assert (live.folder / name).read_text() == before


@pytest.mark.parametrize("name", ["models.toml", "devices.toml"])
def test_a_file_that_is_gone_goes_on_serving(live: LiveConfig, source: Path, name: str, tmp_path: Path) -> None:
    before = (live.folder / name).read_text()
    (source / name).rename(tmp_path / name)
    for _ in range(2):
        assert live.refresh() == {name: f"{source / name}: is gone"}
        assert (live.folder / name).read_text() == before
    (tmp_path / name).rename(source / name)
    assert not live.refresh()


def test_a_broken_table_of_qualities_is_not_taken_over(live: LiveConfig, source: Path) -> None:
    table = source / "quality" / "toyworld.json"
    table.parent.mkdir()
    table.write_text('{"model": "toyworld", "points": [{"size": "1"}]}')
    assert "points.0.size" in live.refresh()["quality/toyworld.json"]
    assert not (live.folder / "quality" / "toyworld.json").exists()
    table.write_text('{"model": "toyworld", "points": []}')
    assert not live.refresh()
    assert load_quality(live.folder, "toyworld") is not None


def test_new_and_removed_presets(live: LiveConfig, source: Path) -> None:
    text = (source / "presets" / "draft.toml").read_text()
    (source / "presets" / "mine.toml").write_text(text.replace('"draft"', '"mine"'))
    (source / "presets" / "draft.toml").unlink()
    assert not live.refresh()
    assert "mine" in load_presets(live.folder) and "draft" not in load_presets(live.folder)


def test_paths_of_models_are_meant_from_the_folder_that_is_edited(live: LiveConfig, source: Path) -> None:
    (source / "mine").mkdir()
    edit(source / "models.toml", '"bundled:toyworld"', '"mine"')
    assert not live.refresh()
    assert load_model(live.folder, "toyworld").folder() == source / "mine"


def test_broken_at_the_start_is_refused(source: Path, tmp_path: Path) -> None:
    edit(source / "presets" / "draft.toml", "steps = 2", "stepps = 2")
    (tmp_path / "live").mkdir()
    with pytest.raises(ConfigError, match=r"quality\.stepps: unknown key"):
        LiveConfig(source, tmp_path / "live")

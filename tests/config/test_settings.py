from __future__ import annotations

from pathlib import Path

import pytest

from videosvc.config.settings import CHECKOUT_CONFIGS, config_dir, load_settings
from videosvc.errors import ConfigError


def test_environment_beats_file_beats_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(tmp_path).preset == "balanced"
    (tmp_path / "service.toml").write_text('preset = "draft"\nmodel = "m"\n')
    assert load_settings(tmp_path).preset == "draft"
    monkeypatch.setenv("VIDEOSVC_PRESET", "quality")
    assert load_settings(tmp_path).preset == "quality"
    assert load_settings(tmp_path).model == "m"


def test_a_wrong_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEOSVC_DEVICE", "abacus")
    with pytest.raises(ConfigError, match=r"^VIDEOSVC_DEVICE: .*'abacus'"):
        load_settings(tmp_path)


def test_a_wrong_key_is_named_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "service.toml").write_text('presett = "draft"\n')
    with pytest.raises(
        ConfigError, match=r"service.toml: presett: unknown key; allowed here: device, model, preset"
    ):
        load_settings(tmp_path)


def test_the_folder_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEOSVC_CONFIG_DIR", str(tmp_path))
    assert config_dir() == tmp_path
    monkeypatch.setenv("VIDEOSVC_CONFIG_DIR", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="no such folder"):
        config_dir()


def test_configs_beside_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    assert config_dir() == CHECKOUT_CONFIGS, "a folder of somebody else's is passed over"
    (tmp_path / "configs" / "models.toml").touch()
    assert config_dir() == Path("configs")

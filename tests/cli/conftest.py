"""A configuration folder with a tiny random model, as a user would point VIDEOSVC_CONFIG_DIR at one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from known_configs import known_configs
from tiny_model import make_tiny_checkpoint


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read it only: it is shared by all tests."""
    return make_tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def tiny_configs(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A known configuration, whose model toyworld is the tiny one."""
    folder = tmp_path / "configs"
    known_configs(folder)
    models = folder / "models.toml"
    models.write_text(models.read_text().replace('"bundled:toyworld"', f'"{tiny_checkpoint}"'))
    monkeypatch.setenv("VIDEOSVC_CONFIG_DIR", str(folder))
    return folder


@pytest.fixture
def tiny_copy(tiny_configs: Path, tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model for a test to damage; the configuration points at it."""
    folder = tmp_path / "copy"
    shutil.copytree(tiny_checkpoint, folder)
    models = tiny_configs / "models.toml"
    models.write_text(models.read_text().replace(str(tiny_checkpoint), str(folder)))
    return folder

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from videosvc.cli.doctor import CHECKS
from videosvc.cli.main import run


@pytest.fixture(autouse=True)
def models_are_bundled(tiny_configs: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny model stands where the package keeps its own."""
    (tiny_checkpoint.parent / "bundled").mkdir(exist_ok=True)
    place = tiny_checkpoint.parent / "bundled" / "toyworld"
    if not place.exists():
        shutil.copytree(tiny_checkpoint, place)
    monkeypatch.setattr("videosvc.config.models.PACKAGE", tiny_checkpoint.parent)
    models = tiny_configs / "models.toml"
    models.write_text(models.read_text().replace(str(tiny_checkpoint), "bundled:toyworld"))


def test_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(CHECKS)
    assert all(line.startswith("ok    ") for line in lines)
    assert "toyworld is whole" in "".join(lines)


def test_each_trouble_is_a_line_that_says_what_to_do(
    tiny_configs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tiny_configs / "presets" / "draft.toml").write_text("nonsense")
    monkeypatch.setenv("VIDEOSVC_DEVICE", "cuda:99")
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/none/ffmpeg")
    monkeypatch.setattr("videosvc.config.models.PACKAGE", tiny_configs)
    monkeypatch.setattr("videosvc.cli.doctor.FREE_GB", 1e9)
    assert run(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line[:3] for line in lines] == ["ok ", *["fix"] * 5]
    for line, says in zip(
        lines[1:],
        ("draft.toml", "there are auto, cpu", "install ffmpeg", "no folder", "make room"),
        strict=True,
    ):
        assert says in line

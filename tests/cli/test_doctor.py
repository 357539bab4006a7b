from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from videosvc.cli.doctor import CHECKS
from videosvc.cli.main import run
from videosvc.families.checksums import write_sums


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
    assert "ok    attention: toyworld native" in lines
    assert "ok    calibration: cpu is not calibrated: quotes are guesses until `videosvc calibrate` has run" in lines


def test_each_trouble_is_a_line_that_says_what_to_do(
    tiny_configs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tiny_configs / "presets" / "draft.toml").write_text("nonsense")
    monkeypatch.setenv("VIDEOSVC_DEVICE", "cuda:99")
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/none/ffmpeg")
    monkeypatch.setattr("videosvc.config.models.PACKAGE", tiny_configs)
    monkeypatch.setattr("videosvc.cli.doctor.FREE_GB", 1e9)
    monkeypatch.setenv("VIDEOSVC_REDIS_URL", "redis://:hidden@127.0.0.1:1/0")
    (tmp_path / "jobs.db").write_text("no database")
    monkeypatch.setenv("VIDEOSVC_DATABASE_URL", f"sqlite:///{tmp_path / 'jobs.db'}")
    assert run(["doctor"]) == 4
    lines = capsys.readouterr().out.splitlines()
    troubles = [line for line in lines if line.startswith("fix")]
    assert [line.split()[1] for line in lines if line not in troubles] == ["versions:", "calibration:", "attention:"]
    for line, says in zip(
        troubles,
        ("draft.toml", "there are auto, cpu", "install ffmpeg", "no folder", "REDIS_URL", "jobs.db", "make room"),
        strict=True,
    ):
        assert says in line
        assert "hidden" not in line


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql+psycopg://:::", "VIDEOSVC_DATABASE_URL: must be sqlite:///"),
        ("postgresql+psycopg://ada:hidden@127.0.0.1:1/clips", "127.0.0.1:1/clips does not answer"),
    ],
)
def test_a_database_that_does_not_answer_is_a_line(
    url: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VIDEOSVC_DATABASE_URL", url)
    assert run(["doctor"]) == 4
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("fix   database")]
    assert says in line and "hidden" not in line and "sqlalche.me" not in line


def test_a_bundled_model_that_is_not_as_it_was_shipped(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "bundled" / "toyworld"
    shutil.copytree(tiny_checkpoint, folder)
    write_sums(folder)
    monkeypatch.setattr("videosvc.config.models.PACKAGE", tmp_path)
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4000] + b"\xff" * 4000)
    assert run(["doctor"]) == 4
    out = capsys.readouterr().out
    assert "fix   bundled model: model 'toyworld': transformer/" in out and "is damaged: its SHA-256" in out


def test_a_device_without_a_price(
    tiny_configs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VIDEOSVC_DEVICE", "cpu")
    (tiny_configs / "devices.toml").write_text('[[devices]]\npattern = "*h200*"\nusd_per_hour = 4\nwatts = 700\n')
    assert run(["doctor"]) == 4
    out = capsys.readouterr().out
    assert "fix   device: devices.toml: no pattern fits device 'cpu'; add one with its price\n" in out


def test_the_redis_and_the_database_that_are_set(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VIDEOSVC_REDIS_URL", redis_url)
    monkeypatch.setenv("VIDEOSVC_DATA_DIR", str(tmp_path / "data" / "not" / "there"))
    assert run(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "ok    redis: that of VIDEOSVC_REDIS_URL answers" in lines
    assert any(line.startswith("ok    database: `videosvc serve` makes ") for line in lines)
    assert any(line.startswith("ok    disk: ") and str(tmp_path) in line for line in lines)
    assert not (tmp_path / "data").exists()

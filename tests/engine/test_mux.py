from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch

from videosvc.engine.mux import Mp4Writer
from videosvc.errors import EncoderStopped, GenerationError

COLOURS = {"red": (225, 45, 45), "green": (35, 150, 60), "blue": (40, 80, 225)}


def solid(colour: tuple[int, int, int], frames: int = 8) -> torch.Tensor:
    return torch.tensor(colour, dtype=torch.uint8).expand(frames, 48, 64, 3)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    with Mp4Writer(path, 64, 48, fps=8) as video:
        for colour in COLOURS.values():
            video.write(solid(colour))
        video.finish()
    return path


def test_plays_everywhere(clip: Path) -> None:
    data = clip.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    report = subprocess.run([ffmpeg, "-hide_banner", "-i", str(clip)], capture_output=True, text=True).stderr
    for expected in ("h264", "yuv420p(tv, bt709", "64x48", "8 fps", "Duration: 00:00:03.00"):
        assert expected in report


def test_colours_survive(clip: Path) -> None:
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    command = [ffmpeg, "-v", "error", "-i", str(clip), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    frames = np.frombuffer(raw, np.uint8).reshape(24, 48, 64, 3).astype(int)
    for number, colour in enumerate(COLOURS.values()):
        assert abs(frames[8 * number + 4, 24, 32] - colour).max() <= 4


def test_the_file_has_the_permissions_of_any_new_file(clip: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch()
    assert clip.stat().st_mode == other.stat().st_mode


def test_leaves_nothing_without_finish(tmp_path: Path) -> None:
    with Mp4Writer(tmp_path / "clip.mp4", 64, 48, fps=8) as video:
        video.write(solid((1, 2, 3)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("finishes", [True, False])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_ffmpeg_is_reported(tmp_path: Path, number: int, finishes: bool) -> None:
    with (
        pytest.raises(EncoderStopped, match="ffmpeg was stopped"),
        Mp4Writer(tmp_path / "clip.mp4", 64, 48, fps=8) as video,
    ):
        video.write(solid((1, 2, 3)))
        video._process.send_signal(number)
        if finishes:
            video.finish()
        for _ in range(1000):  # more than a pipe holds
            video.write(solid((1, 2, 3)))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_ffmpeg_is_reported_with_its_last_line(tmp_path: Path) -> None:
    with (
        pytest.raises(GenerationError, match=r"ffmpeg failed: .*received no packets") as caught,
        Mp4Writer(tmp_path / "clip.mp4", 64, 47, fps=8) as video,
    ):
        video.write(torch.zeros(1, 47, 64, 3, dtype=torch.uint8))
        video.finish()
    assert not isinstance(caught.value, EncoderStopped)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("program", ["/none/ffmpeg", "/dev/null"])
def test_an_ffmpeg_that_does_not_start_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", program)
    with (
        pytest.raises(GenerationError, match=r"ffmpeg does not run \(.*\); `videosvc doctor` says what to do"),
        Mp4Writer(tmp_path / "clip.mp4", 64, 48, fps=8),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_refuses_frames_of_another_size(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="frames"),
        Mp4Writer(tmp_path / "clip.mp4", 64, 64, fps=8) as video,
    ):
        video.write(solid((1, 2, 3)))


@pytest.mark.parametrize("name", ["take:2.mp4", "a" * 240 + ".mp4", "two words.mp4"])
def test_names_that_are_legal_but_odd(tmp_path: Path, name: str) -> None:
    with Mp4Writer(tmp_path / name, 64, 64, 8) as video:
        video.write(torch.zeros(4, 64, 64, 3, dtype=torch.uint8))
        video.finish()
    assert [path.name for path in tmp_path.iterdir()] == [name]

"""Scratch folders end with their process, whichever way that ends."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from videosvc.artifacts.scratch import scratch_folder, tidy_scratch

MAKE = """
from videosvc.artifacts.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "video.mp4").write_bytes(b"a tenant's")
    print(folder, flush=True)
    input()
"""


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.fixture
def maker(parent: Path) -> Iterator[Callable[[], tuple[subprocess.Popen[str], Path]]]:
    """Starts processes that have one, until their input ends."""
    with ExitStack() as stack:

        def start() -> tuple[subprocess.Popen[str], Path]:
            command = [sys.executable, "-c", MAKE]
            process = stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            return process, Path(process.stdout.readline().strip())

        yield start


def test_it_is_gone_when_it_is_left(parent: Path) -> None:
    with pytest.raises(OSError, match="full"), scratch_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "video.mp4").touch()
        tidy_scratch()
        assert (folder / "video.mp4").exists()
        raise OSError("the disk is full")
    assert list(parent.iterdir()) == []


def test_what_killed_processes_left_is_removed_and_no_other(
    parent: Path, maker: Callable[[], tuple[subprocess.Popen[str], Path]]
) -> None:
    (killed, left), (_, kept) = maker(), maker()
    (parent / "somebody-elses").mkdir()
    killed.kill()
    killed.wait()
    assert (left / "video.mp4").exists()
    tidy_scratch()
    assert sorted(parent.iterdir()) == sorted([kept, parent / "somebody-elses"])
    assert (kept / "video.mp4").exists()

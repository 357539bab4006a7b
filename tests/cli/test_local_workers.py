from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import pytest

from eventually import eventually
from videosvc.cli import local_workers
from videosvc.cli.local_workers import LocalWorkers, worker_devices


def test_a_worker_that_could_not_be_started_or_ended_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    program, started = tmp_path / "python", tmp_path / "started"
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(local_workers, "RESTART_AFTER_S", (0.05, 0.1))
    monkeypatch.setattr(local_workers, "LOOK_EVERY_S", 0.02)
    with LocalWorkers(["cpu"], {}, drain_s=10):
        eventually(lambda: caplog.text.count("the worker on cpu cannot be started: [Errno 2]") == 2)
        fresh = tmp_path / "new"
        fresh.write_text(f"#!/bin/sh\necho $$ > {started}.part\nmv {started}.part {started}\nexec sleep 600\n")
        fresh.chmod(0o755)
        fresh.rename(program)
        eventually(started.exists)
        first = psutil.Process(int(started.read_text()))
        started.unlink()
        first.kill()
        eventually(started.exists)
        second = psutil.Process(int(started.read_text()))
        assert "the worker on cpu ended with -9" in caplog.text
    assert not second.is_running(), "it ends with whoever started it"


def test_a_worker_for_each_gpu_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, started = tmp_path / "nvidia-smi", tmp_path / "started"
    started.mkdir()
    # In the place of Python too: asked by torch's name it counts two, and run as a worker it says for which device.
    program.write_text(
        '#!/bin/sh\ncase "$*" in *device_count*) echo 2; exit;; esac\n'
        f"for last; do :; done\ntouch {started}/$last\nexec sleep 600\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(sys, "executable", str(program))
    devices = worker_devices("auto", None)
    assert worker_devices("auto", 3) == [*devices, devices[0]]
    with LocalWorkers(devices, {}, drain_s=10):
        eventually(lambda: len(list(started.iterdir())) == 2)
    assert {path.name for path in started.iterdir()} == {"cuda:0", "cuda:1"}

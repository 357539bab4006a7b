from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from eventually import eventually
from videosvc.cli import local_workers
from videosvc.cli.local_workers import LocalWorkers


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

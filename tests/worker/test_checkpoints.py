from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from videosvc.engine.checkpoint import Checkpoint
from videosvc.engine.plan import Plan
from videosvc.worker.checkpoints import KEPT_S, CheckpointFolder

PLAN = Plan("tiny", "a red ball", None, 1, 64, 64, 8, 1.0, 2, "flow_map", 1.0, "native", "native", "stream")
CHECKPOINT = Checkpoint(PLAN, "hash", (torch.zeros(1, 16, 2, 8, 8),), None, {"denoise": 1.0}, (2,))


def test_each_job_has_its_own(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints")
    assert folder.load("video_a") is None
    assert folder.save("video_a", CHECKPOINT)
    found = CheckpointFolder(tmp_path / "checkpoints").load("video_a")
    assert found is not None and (found.plan, found.spent) == (PLAN, {"denoise": 1.0})
    assert folder.load("video_b") is None
    folder.remove("video_a")
    folder.remove("video_a")
    assert folder.load("video_a") is None


def test_a_disk_that_is_full_is_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    folder = CheckpointFolder(tmp_path)
    monkeypatch.setattr("os.fsync", full)
    assert not folder.save("video_a", CHECKPOINT)
    assert list(tmp_path.iterdir()) == []


def test_one_that_cannot_be_removed_is_no_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = CheckpointFolder(tmp_path)
    (tmp_path / "video_a.safetensors").mkdir()
    folder.remove("video_a")
    assert "the checkpoint of job video_a stays for now" in caplog.text


def test_what_nobody_came_back_for_goes_after_a_day(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    for job, at in (("video_old", 1000.0), ("video_new", 2000.0)):
        folder.save(job, CHECKPOINT)
        os.utime(tmp_path / f"{job}.safetensors", (at, at))
    folder.tidy(now=1500.0 + KEPT_S)
    assert [path.name for path in tmp_path.iterdir()] == ["video_new.safetensors"]

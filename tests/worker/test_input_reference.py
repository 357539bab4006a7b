"""A picture's way from a request over HTTP to the clip that starts from it."""

from __future__ import annotations

import io
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from api_service import BALLOON, Api, starter
from eventually import eventually
from videosvc.config.reload import LiveConfig
from videosvc.config.settings import CHECKOUT_CONFIGS
from videosvc.pricing.cost_model import CostModel
from videosvc.worker.checkpoints import CheckpointFolder
from videosvc.worker.handler import VideoHandler
from videosvc.worker.warm_models import WarmModels
from videosvc_queue import patience
from videosvc_queue.drain import Drain
from videosvc_queue.job import Job, Status
from videosvc_queue.runner import run_one

NewHandler = Callable[[], VideoHandler]


@pytest.fixture
def api(tmp_path: Path, redis_url: str) -> Iterator[Api]:
    with starter(tmp_path / "service", redis_url) as start:
        yield start()


@pytest.fixture
def new_handler(api: Api, tmp_path: Path) -> NewHandler:
    """What a worker has that was started anew, with the bundled model."""
    (tmp_path / "live").mkdir()
    config, data = LiveConfig(CHECKOUT_CONFIGS, tmp_path / "live"), api.services.settings.data_dir

    def make() -> VideoHandler:
        checkpoints = CheckpointFolder(data / "checkpoints")
        return VideoHandler(
            config, WarmModels("cpu", 1), CostModel(data, "cpu"), api.services.artifacts, checkpoints, 86400
        )

    return make


def create(api: Api, picture: bytes) -> str:
    with api.client() as client:
        files = {"input_reference": ("a.png", picture, "image/png")}
        answer = client.post("/v1/videos", data={**BALLOON, "preset": "draft"}, files=files)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def work(api: Api, bus: Any, handler: VideoHandler, drain: Drain | None = None) -> Job:
    taken = run_one(api.services.store, bus, handler, ["toyworld"], "worker-1", drain=drain)
    assert taken is not None
    row = api.services.store.get(taken.id)
    assert row is not None
    return row


def clip_of(api: Api, video_id: str) -> bytes:
    with api.client() as client:
        return client.get(f"/v1/videos/{video_id}/content").content


def frames_of(clip: bytes, tmp_path: Path) -> np.ndarray:
    """(T, 64, 64, 3)"""
    file = tmp_path / "clip.mp4"
    file.write_bytes(clip)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(file), "-f", "rawvideo", "-pix_fmt", "rgb24"]
    raw = subprocess.run([*command, "-"], capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, 64, 64, 3)


def wide_picture() -> tuple[bytes, np.ndarray]:
    """192x64: sky over grass, red beyond the middle square that a 64x64 clip shows; and that square."""
    image = Image.new("RGB", (192, 64), "red")
    image.paste((120, 180, 240), (64, 0, 128, 40))
    image.paste((80, 160, 60), (64, 40, 128, 64))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue(), np.array(image)[:, 64:128].astype(int)


def test_the_clip_starts_from_the_picture_that_was_sent(
    api: Api, bus: Any, new_handler: NewHandler, tmp_path: Path
) -> None:
    picture, shown = wide_picture()
    video_id = create(api, picture)
    job = work(api, bus, new_handler())
    assert job.status is Status.COMPLETED, job.error_message
    frames = frames_of(clip_of(api, video_id), tmp_path).astype(int)
    assert len(frames) == 16
    assert np.abs(frames[0] - shown).mean() < 10, "levels of 255: what autoencoder and video encoder lose"
    assert np.abs(frames[1] - shown).mean() < 40


def test_one_that_was_interrupted_goes_on_bit_for_bit(api: Api, bus: Any, new_handler: NewHandler) -> None:
    picture, _ = wide_picture()
    whole = create(api, picture)
    work(api, bus, new_handler())
    again = create(api, picture)
    drain = Drain(within_s=0)
    bus.hook = ("progress", lambda calls: drain.request())
    assert work(api, bus, new_handler(), drain).status is Status.QUEUED
    bus.hook = None
    job = work(api, bus, new_handler())
    assert job.result is not None and job.result["receipt"]["resumed"]
    assert (job.status, job.attempts) == (Status.COMPLETED, 2)
    assert clip_of(api, again) == clip_of(api, whole)


def test_a_picture_that_cannot_be_read_for_a_moment_costs_no_attempt(
    api: Api, bus: Any, new_handler: NewHandler, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(patience, "PAUSE_S", 0.05)
    create(api, wide_picture()[0])
    kept = api.services.settings.data_dir / "artifacts"
    away = kept.rename(kept.with_name("away"))
    bring_back = threading.Thread(
        target=lambda: (eventually(lambda: "tried again in" in caplog.text, 300), away.rename(kept))
    )
    bring_back.start()
    job = work(api, bus, new_handler())
    bring_back.join()
    assert (job.status, job.attempts) == (Status.COMPLETED, 1)

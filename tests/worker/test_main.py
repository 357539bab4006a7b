"""A real `videosvc worker`, a real Redis, and the queue's own dispatcher and reconciler."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from imageio_ffmpeg import get_ffmpeg_exe

from eventually import eventually
from videosvc.artifacts.store import ArtifactStore
from videosvc.cli.main import run
from videosvc.config.models import load_model, load_models
from videosvc.config.settings import Settings
from videosvc.engine.loading import open_engine
from videosvc.engine.plan import Plan
from videosvc.pricing.batching import BatchShare
from videosvc.pricing.calibration import Calibration, calibration_path, fingerprint_of, levers_of
from videosvc.pricing.features import FEATURES
from videosvc.pricing.shape import read_shape
from videosvc.worker.refused_levers import refused_levers
from videosvc_queue.celery_app import make_celery
from videosvc_queue.dispatcher import Dispatcher
from videosvc_queue.events import EventBus
from videosvc_queue.job import Job, Status
from videosvc_queue.reconciler import Reconciler
from videosvc_queue.store import Store

STARTED_S = 300  # torch alone takes long on a busy machine
COMMAND = [sys.executable, "-P", "-c", "from videosvc.cli.main import main; main()", "worker", "--device", "cpu"]

StartWorker = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def new_worker(settings: Settings, folder: Path, redis_url: str) -> Iterator[StartWorker]:
    """Starts workers, each in a process group of its own; what is left of them at the end is killed."""
    variables = {
        "VIDEOSVC_CONFIG_DIR": str(folder),
        "VIDEOSVC_DATA_DIR": str(settings.data_dir),
        "VIDEOSVC_REDIS_URL": redis_url,
        "VIDEOSVC_PRESET": "draft",
        "VIDEOSVC_LEASE_S": "3",  # it beats every half second
    }
    with ExitStack() as stack:

        def start() -> subprocess.Popen[bytes]:
            process = subprocess.Popen(COMMAND, env={**os.environ, **variables}, start_new_session=True)
            stack.callback(_kill_group, process)
            return process

        yield start


@pytest.fixture
def service(queue: Store, redis_url: str) -> Iterator[None]:
    """What the API runs beside itself. Leases are short."""
    celery, bus = make_celery(redis_url), EventBus(redis_url)
    with celery, Dispatcher(queue, celery, bus), Reconciler(queue, celery, bus, lease_s=10.0, every_s=0.5):
        yield


@pytest.mark.usefixtures("service")
def test_a_job_runs_from_submit_to_its_files_and_the_worker_stops_when_told(
    new_worker: StartWorker, folder: Path, queue: Store, artifacts: ArtifactStore, redis_url: str, checkpoints: Path,
    quoted: Any, submitted: Any,
) -> None:  # fmt: skip
    checkpoints.mkdir(parents=True, exist_ok=True)
    old = checkpoints / "video_0.safetensors"
    old.touch()
    os.utime(old, (0, 0))
    worker = new_worker()
    job = submitted(quoted())
    job = until(queue, job, Status.COMPLETED)
    (child,) = psutil.Process(worker.pid).children()
    assert child.nice() == min(19, os.nice(0) + 5), "the API answers first"
    assert job.result is not None
    assert {name: artifacts.size(entry["key"]) for name, entry in job.result["artifacts"].items()} == {
        name: entry["bytes"] for name, entry in job.result["artifacts"].items()
    }
    assert b"".join(artifacts.open(job.result["artifacts"]["video"]["key"], 4, 8)) == b"ftyp"
    assert 0 < job.result["receipt"]["charged_usd"] <= job.result["receipt"]["quoted_usd"]
    kinds = [event.kind for event in EventBus(redis_url).read(job.id)]
    assert kinds[0] == "plan" and kinds[-1] == "completed"
    assert [(entry.device, entry.routes) for entry in queue.live_workers()] == [("cpu", ("toyworld",))]
    asked = {"prompt_cache_hits": 0, "prompt_cache_misses": 2}  # the clip that warms up, and the job's
    eventually(lambda: queue.live_workers()[0].figures == asked, STARTED_S)
    (entry,) = queue.live_workers()
    refused = refused_levers(torch.device("cpu"), load_models(folder).values())
    assert entry.refuses == refused, "what the API must not sell"
    eventually(lambda: not old.exists())
    worker.terminate()
    assert worker.wait(60) == 0
    assert queue.live_workers() == []


@pytest.mark.usefixtures("service")
def test_a_job_whose_worker_is_killed_ends_as_if_nothing_had_happened(
    new_worker: StartWorker, folder: Path, queue: Store, checkpoints: Path, quoted: Any, submitted: Any,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    reference = folder / "presets" / "reference.toml"
    # Seconds of compute, of which a checkpoint is worth its while, even with a tiny model on a quick machine.
    reference.write_text(reference.read_text().replace("steps = 50", "steps = 200").replace("fps = 8", "fps = 16"))
    first = new_worker()
    long = quoted(preset="reference", seconds=8.0, size="128x128")
    killed, undisturbed = submitted(long), submitted(long)
    checkpoint = checkpoints / f"{killed.id}.safetensors"
    eventually(checkpoint.exists, STARTED_S)
    _kill_group(first)
    (left,) = temporary.glob("videosvc-work-*")
    new_worker()
    killed, undisturbed = (until(queue, job, Status.COMPLETED) for job in (killed, undisturbed))
    assert killed.attempts > 1 and killed.result["receipt"]["resumed"]  # type: ignore[index]
    etags = [job.result["artifacts"]["video"]["etag"] for job in (killed, undisturbed)]  # type: ignore[index]
    assert etags[0] == etags[1]
    assert not checkpoint.exists() and not left.exists()


@pytest.mark.usefixtures("service")
def test_two_jobs_of_one_kind_share_forwards_and_become_what_they_are_alone(
    new_worker: StartWorker, folder: Path, settings: Settings, queue: Store, artifacts: ArtifactStore, tmp_path: Path,
    quoted: Any, submitted: Any,
) -> None:  # fmt: skip
    draft = folder / "presets" / "draft.toml"
    text = draft.read_text().replace("steps = 2", "steps = 40")  # so that they meet, on a quick machine too
    draft.write_text(re.sub(r"(max_\w+) = [\d.]+", r"\1 = 100.0", text))
    quotes = [quoted(seed=seed, seconds=4.0, prompt=prompt) for seed, prompt in enumerate(("a red circle", "the sea"))]
    _measured_to_share(settings, folder, quotes[0].plan)
    jobs = [submitted(quote) for quote in quotes]
    new_worker()
    ended = [until(queue, job, Status.COMPLETED) for job in jobs]
    engine = open_engine(load_model(folder, "toyworld"), "cpu")
    for job, quote in zip(ended, quotes, strict=True):
        assert job.result is not None and job.attempts == 1
        receipt = job.result["receipt"]
        saved = {lever["name"]: lever["saved_compute_seconds"] for lever in receipt["levers"]}
        assert 0 < saved["batch"] <= receipt["by_stage"]["denoise"]  # at a share of a half
        assert 0 < receipt["charged_usd"] <= receipt["quoted_usd"]
        shared, alone = tmp_path / "shared.mp4", tmp_path / "alone.mp4"
        shared.write_bytes(b"".join(artifacts.open(job.result["artifacts"]["video"]["key"])))
        for _ in engine.run(quote.plan, alone):
            pass
        pictures = [_pixels(path, quote.plan) for path in (shared, alone)]
        assert pictures[0].shape == pictures[1].shape == (quote.plan.frames, 64, 64, 3)
        assert np.abs(pictures[0] - pictures[1]).mean() < 0.5  # of 255


def _measured_to_share(settings: Settings, folder: Path, plan: Plan) -> None:
    """As if `videosvc calibrate` had found that two clips take no longer than one."""
    entry = load_model(folder, plan.model)
    Calibration(
        device="cpu",
        model=entry.name,
        levers=levers_of(plan),
        fingerprint=fingerprint_of(read_shape(entry).model_hash),
        measured_at=1.8e9,
        seconds={kind: dict.fromkeys(names, 1e-3) for kind, names in FEATURES.items()},
        cold_s=0.1,
        residuals=(1.0,),
        batch=(BatchShare(size=plan.size, clips=2, share=0.5),),
    ).save(calibration_path(settings.data_dir, "cpu", entry.name, plan))


def _pixels(path: Path, plan: Plan) -> np.ndarray:
    command = [get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, plan.height, plan.width, 3).astype(np.float32)


def test_a_worker_needs_a_redis(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["worker", "--device", "cpu"]) == 2
    out, err = capfd.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    assert "VIDEOSVC_REDIS_URL" in err


@pytest.mark.parametrize(("device", "says"), [("tpu", "--device: "), ("cuda:99", "--device: there is no cuda:99")])
def test_a_device_that_is_not_there_is_one_line(
    device: str, says: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VIDEOSVC_REDIS_URL", redis_url)
    assert run(["worker", "--device", device]) == 2
    out, err = capfd.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    assert says in err


def test_a_worker_whose_model_is_damaged_says_so_and_ends(
    new_worker: StartWorker, folder: Path, tmp_path: Path
) -> None:
    models = folder / "models.toml"
    lines = models.read_text().splitlines()
    models.write_text("\n".join(f'path = "{tmp_path}"' if line.startswith("path") else line for line in lines))
    assert new_worker().wait(STARTED_S) == 1


def test_the_process_that_listens_loads_no_torch() -> None:
    script = "import sys, videosvc.worker.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", script]).returncode == 0


def until(queue: Store, job: Job, status: Status) -> Job:
    """The job's row once it has ended, which it must with this status."""
    ended: list[Job] = []

    def has_ended() -> bool:
        row = queue.get(job.id)
        assert row is not None
        ended.append(row)
        return row.status.terminal

    eventually(has_ended, STARTED_S)
    assert ended[-1].status is status, (ended[-1].error_code, ended[-1].error_message)
    return ended[-1]


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()

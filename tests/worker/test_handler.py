from __future__ import annotations

import io
import shutil
import threading
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from PIL import Image

from eventually import eventually
from videosvc.config.models import load_model
from videosvc.config.settings import Settings
from videosvc.engine.budget import Budget, ComputeCapExceeded
from videosvc.engine.generate import Engine
from videosvc.engine.plan import Plan
from videosvc.errors import GenerationError
from videosvc.pricing.cost_model import CostModel
from videosvc.worker import attempt
from videosvc.worker.handler import VideoHandler
from videosvc_queue import patience
from videosvc_queue.context import Context, Unfit
from videosvc_queue.drain import Drain
from videosvc_queue.job import Job, Status
from videosvc_queue.runner import Outcome
from worker_bench import Bench, break_engine

RECEIPT = {
    "compute_seconds", "by_stage", "device", "device_usd_per_hour", "price_usd", "price_per_second_usd", "quoted_usd",
    "charged_usd", "energy_joules", "energy_source", "baseline_compute_seconds", "levers", "resumed",
    "wasted_compute_seconds",
}  # fmt: skip


def test_a_job_becomes_a_clip_with_previews_and_a_receipt(
    bench: Bench, handler: VideoHandler, quoted: Any, submitted: Any, whole: Any, work: Path, checkpoints: Path
) -> None:
    quote = quoted()
    submitted(quote)
    job = bench.run(handler)
    assert job.status is Status.COMPLETED and job.progress == 100 and job.error_code is None
    assert job.result is not None and job.result["size"] == "64x64"
    artifacts = job.result["artifacts"]
    assert {name: entry["key"] for name, entry in artifacts.items()} == {
        "video": f"{job.id}/{job.fence}/video.mp4",
        "thumbnail": f"{job.id}/{job.fence}/thumbnail.webp",
        "spritesheet": f"{job.id}/{job.fence}/spritesheet.jpg",
    }
    assert [entry["media_type"] for entry in artifacts.values()] == ["video/mp4", "image/webp", "image/jpeg"]
    assert bench.video(job) == whole(quote)
    for name, kind in (("thumbnail", "WEBP"), ("spritesheet", "JPEG")):
        data = b"".join(bench.artifacts.open(artifacts[name]["key"]))
        assert len(data) == artifacts[name]["bytes"]
        assert Image.open(io.BytesIO(data)).format == kind
    receipt = job.result["receipt"]
    assert set(receipt) >= RECEIPT
    assert 0 < receipt["charged_usd"] <= receipt["quoted_usd"]
    assert bench.store.spent_today(job.tenant) == Decimal(str(receipt["charged_usd"]))
    assert not receipt["resumed"] and receipt["wasted_compute_seconds"] == 0
    assert job.expires_at is not None and job.completed_at is not None
    assert job.expires_at - job.completed_at == pytest.approx(86400, abs=60)
    assert list(work.iterdir()) == list(checkpoints.iterdir()) == []


def test_cancel_stops_within_the_step_and_charges_for_what_ran(
    bench: Bench, handler: VideoHandler, quoted: Any, submitted: Any, work: Path, checkpoints: Path
) -> None:
    job = submitted(quoted())
    bench.on("progress", 2, lambda: bench.store.cancel(job.id, job.tenant))
    job = bench.run(handler)
    assert job.status is Status.CANCELLED
    assert [event.kind for event in bench.bus.read(job.id)].count("progress") == 2
    receipt = job.result["receipt"]  # type: ignore[index]
    assert 0 < receipt["charged_usd"] < receipt["quoted_usd"]
    assert receipt["by_stage"]["denoise"] > 0 and receipt["by_stage"]["decode"] == 0
    assert bench.store.spent_today(job.tenant) == Decimal(str(receipt["charged_usd"]))
    assert "artifacts" not in job.result  # type: ignore[operator]
    assert list(work.iterdir()) == list(checkpoints.iterdir()) == []


def test_out_of_memory_fails_that_job_and_the_worker_stays(
    bench: Bench, handler: VideoHandler, quoted: Any, submitted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted(quoted())
    with monkeypatch.context() as patch:
        break_engine(patch, torch.OutOfMemoryError("CUDA out of memory"), after=3)
        job = bench.run(handler)
    assert (job.status, job.error_code) == (Status.FAILED, "out_of_memory")
    assert job.error_message == "the device ran out of memory; ask for a smaller size"
    on_the_house(bench, job)
    submitted(quoted())
    assert bench.run(handler).status is Status.COMPLETED


@pytest.mark.parametrize("lost", [False, True], ids=["the device is well", "the device is lost"])
def test_after_a_fault_of_the_device_the_job_goes_back_and_the_process_is_given_up(
    bench: Bench, handler: VideoHandler, quoted: Any, submitted: Any, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    raised: list[Exception] = []

    def run(job: Job, context: Context) -> Outcome:
        try:
            return handler(job, context)
        except Exception as error:
            raised.append(error)
            raise

    monkeypatch.setattr(patience, "FIRST_REST_S", 0.0)
    monkeypatch.setattr("videosvc.worker.handler.is_broken", lambda device: lost)
    break_engine(monkeypatch, RuntimeError("CUDA error: an illegal memory access was encountered"), after=3)
    submitted(quoted())
    job = bench.run(run)
    assert job.status is Status.QUEUED and job.detail["spent_s"] > 0
    assert [isinstance(error, Unfit) for error in raised] == [lost]


@pytest.mark.parametrize("drains", [False, True], ids=["it alone", "the whole service"])
def test_whoever_stops_the_encoder_stops_no_job(
    bench: Bench, handler: VideoHandler, quoted: Any, submitted: Any, whole: Any, monkeypatch: pytest.MonkeyPatch,
    drains: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(patience, "FIRST_REST_S", 0.0)
    quote = quoted()
    submitted(quote)
    drain = Drain(within_s=600.0)

    def stop_encoder() -> None:
        (encoder,) = (child for child in psutil.Process().children() if "ffmpeg" in child.name())
        encoder.terminate()
        if drains:
            drain.request()

    bench.on("progress", 2, stop_encoder)
    assert bench.run(handler, drain).status is Status.QUEUED
    job = bench.run(handler)
    assert job.status is Status.COMPLETED
    assert bench.video(job) == whole(quote)
    assert job.result is not None and job.result["receipt"]["resumed"] is drains, "with all that was done by then"


def test_what_fails_for_good_is_told_in_one_line_and_free(
    bench: Bench, handler: VideoHandler, quoted: Any, submitted: Any, monkeypatch: pytest.MonkeyPatch, work: Path
) -> None:
    submitted(quoted())
    break_engine(monkeypatch, GenerationError("step 1 of chunk 1: latents are not finite"), after=3)
    job = bench.run(handler)
    assert (job.status, job.error_code, job.attempts) == (Status.FAILED, "generation_failed", 1)
    assert job.error_message == "step 1 of chunk 1: latents are not finite"
    on_the_house(bench, job)
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("events", [0, 3])  # before the first step; with a chunk in the file
def test_a_cap_that_cannot_be_kept_ends_the_job_below_it_and_leaves_no_file(
    bench: Bench, handler: VideoHandler, quoted: Any, submitted: Any, settings: Any, work: Path, checkpoints: Path,
    monkeypatch: pytest.MonkeyPatch, events: int,
) -> None:  # fmt: skip
    quote = quoted()
    if events == 0:
        quote = replace(quote, max_compute_s=1e-6)
    else:
        monkeypatch.setattr(attempt, "CHUNK_S", 0.0)  # so that there is a checkpoint
        break_engine(monkeypatch, ComputeCapExceeded("the cap would be exceeded"), after=1 + events)
    submitted(quote)
    job = bench.run(handler)
    assert (job.status, job.error_code) == (Status.FAILED, "compute_cap_exceeded")
    receipt = job.result["receipt"]  # type: ignore[index]
    assert (receipt["compute_seconds"] > 0) == (events > 0)
    assert quote.max_compute_s is None or receipt["compute_seconds"] <= quote.max_compute_s
    assert 0 <= receipt["charged_usd"] <= receipt["quoted_usd"]
    assert "artifacts" not in job.result  # type: ignore[operator]
    assert list(work.iterdir()) == list(checkpoints.iterdir()) == []
    assert not (settings.data_dir / "artifacts").exists()


def test_what_a_cap_leaves_of_a_clip_can_be_fetched(
    bench: Bench, handler: VideoHandler, quoted: Any, submitted: Any, monkeypatch: pytest.MonkeyPatch,
    checkpoints: Path, settings: Settings, folder: Path,
) -> None:  # fmt: skip
    def stop(self: Budget, chunk: int) -> None:
        if chunk == 1:
            raise ComputeCapExceeded("the cap would be exceeded")

    monkeypatch.setattr(Budget, "require_landing", stop)
    quote = replace(quoted(seconds=4.0), max_compute_s=1000.0)
    submitted(quote)
    job = bench.run(handler)
    assert (job.status, job.error_code) == (Status.FAILED, "compute_cap_exceeded")
    assert "; the first " in str(job.error_message) and "s of the clip are kept" in str(job.error_message)
    assert job.result is not None and job.expires_at is not None and list(checkpoints.iterdir()) == []
    assert set(job.result["artifacts"]) == {"video", "thumbnail", "spritesheet"}
    assert bench.video(job)[4:8] == b"ftyp"
    receipt = job.result["receipt"]
    assert (job.detail["plan"]["frames"], job.detail["plan"]["seconds"]) == (8, 1.0)
    assert receipt["price_per_second_usd"] == pytest.approx(receipt["charged_usd"], abs=1e-9)
    assert set(receipt) >= RECEIPT and receipt["by_stage"]["mux"] > 0
    assert 0 < receipt["charged_usd"] <= receipt["quoted_usd"]
    assert bench.store.spent_today(job.tenant) == Decimal(str(receipt["charged_usd"]))
    learnt = CostModel(settings.data_dir, "cpu").fit(load_model(folder, "toyworld"), quote.plan)
    assert learnt.slowness != 1.0, "the next one is planned at the speed that was seen"


def test_a_model_that_is_gone_or_damaged_is_named(
    bench: Bench, handler: VideoHandler, quoted: Any, submitted: Any, folder: Path, tiny_checkpoint: Path,
    tmp_path: Path,
) -> None:
    models = folder / "models.toml"
    shipped = models.read_text()
    submitted(quoted())
    models.write_text(shipped.replace('name = "toyworld"', 'name = "other"'))
    job = bench.run(handler)
    assert (job.status, job.error_code) == (Status.FAILED, "unknown_model")
    models.write_text(shipped)
    submitted(quoted())
    copy = tmp_path / "copy"
    shutil.copytree(tiny_checkpoint, copy)
    (copy / "vae" / "config.json").unlink()
    models.write_text(shipped.replace(str(tiny_checkpoint), str(copy)))
    job = bench.run(handler)
    assert (job.status, job.error_code) == (Status.FAILED, "model_unavailable")
    assert "vae/config.json" in str(job.error_message)


def test_a_cold_job_is_run_and_charged_as_a_warm_one(
    bench: Bench, handler: VideoHandler, quoted: Any, submitted: Any, folder: Path, measured: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """What warms up is a clip for nobody, for which the cap leaves no room. An edited entry is cold again."""
    runs: list[Plan] = []
    whole = Engine.run

    def noting(self: Engine, plan: Plan, *arguments: Any) -> Any:
        runs.append(plan)
        return whole(self, plan, *arguments)

    monkeypatch.setattr(Engine, "run", noting)
    quote = quoted()
    measured(quote, cold_s=1e7)
    quote = replace(quote, max_compute_s=1e5)
    models = folder / "models.toml"
    for cold in (True, False, True):
        if cold and runs:
            models.write_text(models.read_text().replace("max_seconds = 8.0", "max_seconds = 7.0"))
        runs.clear()
        submitted(quote)
        job = bench.run(handler)
        assert job.status is Status.COMPLETED
        *warming, ran = runs
        assert ran == quote.plan and len(warming) == cold
        for plan in warming:
            assert (plan.steps, plan.size, plan.loading) == (1, ran.size, ran.loading) and plan.prompt != ran.prompt


def test_a_clip_that_cannot_warm_up_fails_no_job(
    bench: Bench, handler: VideoHandler, quoted: Any, submitted: Any, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    whole = Engine.run

    def broken(self: Engine, plan: Plan, *arguments: Any) -> Any:
        if plan.steps == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, plan, *arguments)

    monkeypatch.setattr(Engine, "run", broken)
    submitted(quoted())
    assert bench.run(handler).status is Status.COMPLETED
    assert "model toyworld is not warm: CUDA out of memory" in caplog.text


def test_a_store_that_is_away_for_a_moment_costs_no_attempt(
    bench: Bench, handler: VideoHandler, quoted: Any, submitted: Any, settings: Settings,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(patience, "PAUSE_S", 0.05)
    in_the_way = settings.data_dir / "artifacts"
    in_the_way.touch()
    submitted(quoted())
    bring_back = threading.Thread(
        target=lambda: (eventually(lambda: "tried again in" in caplog.text, 300), in_the_way.unlink())
    )
    bring_back.start()
    job = bench.run(handler)
    bring_back.join()
    assert (job.status, job.attempts) == (Status.COMPLETED, 1)
    assert len(bench.video(job)) > 0


def test_a_store_that_stays_away_is_tried_again_by_the_next_attempt(
    bench: Bench, handler: VideoHandler, quoted: Any, submitted: Any, settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(patience, "WAIT_S", 0.0)
    in_the_way = settings.data_dir / "artifacts"
    in_the_way.touch()
    submitted(quoted())
    assert bench.run(handler).status is Status.QUEUED
    in_the_way.unlink()
    job = bench.run(handler)
    assert (job.status, job.attempts) == (Status.COMPLETED, 2)


def on_the_house(bench: Bench, job: Job) -> None:
    """What was measured is told, and not charged."""
    assert job.result is not None and set(job.result["receipt"]) == RECEIPT
    receipt = job.result["receipt"]
    assert receipt["by_stage"]["denoise"] > 0 and receipt["price_usd"] > 0
    assert receipt["charged_usd"] == receipt["price_per_second_usd"] == 0 < receipt["quoted_usd"]
    assert receipt["levers"] == []
    (usage,) = bench.store.usage(job.tenant, 0, 9e9)
    assert usage.charged_usd == bench.store.spent_today(job.tenant) == 0
    assert usage.compute_s == pytest.approx(receipt["compute_seconds"], abs=0.001)

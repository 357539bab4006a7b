from __future__ import annotations

import io
import itertools
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from PIL import Image

from eventually import eventually
from videosvc.api.video_object import video_object
from videosvc.artifacts.store import ArtifactStore
from videosvc.config.models import load_model
from videosvc.config.settings import Settings
from videosvc.engine.budget import Budget, ComputeCapExceeded
from videosvc.engine.checkpoint import Checkpoint
from videosvc.engine.generate import Engine
from videosvc.engine.loading import open_engine
from videosvc.errors import GenerationError
from videosvc.pricing.cost_model import CostModel
from videosvc.pricing.quote import Quote
from videosvc.worker import attempt
from videosvc.worker.handler import VideoHandler
from videosvc_queue import context, patience
from videosvc_queue.drain import Drain
from videosvc_queue.events import EventBus
from videosvc_queue.job import Job, Status
from videosvc_queue.runner import run_one
from videosvc_queue.store import Store
from videosvc_queue.tiers import Tier

RECEIPT = {
    "compute_seconds", "by_stage", "device", "device_usd_per_hour", "price_usd", "price_per_second_usd", "quoted_usd",
    "charged_usd", "energy_joules", "energy_source", "baseline_compute_seconds", "levers", "resumed",
    "wasted_compute_seconds",
}  # fmt: skip


@dataclass
class Bench:
    """Runs jobs as a worker's process does, and looks at what came of them."""

    store: Store
    bus: Any  # HookedBus
    artifacts: ArtifactStore

    def run(self, handler: VideoHandler, drain: Drain | None = None) -> Job:
        """The fairest job's row after an attempt at it."""
        taken = run_one(self.store, self.bus, handler, ["toyworld"], "worker-1", drain=drain)
        assert taken is not None
        return self.row(taken)

    def row(self, job: Job) -> Job:
        row = self.store.get(job.id)
        assert row is not None
        return row

    def video(self, job: Job) -> bytes:
        return b"".join(self.artifacts.open(self.row(job).result["artifacts"]["video"]["key"]))  # type: ignore[index]

    def on(self, kind: str, number: int, act: Callable[[], object]) -> None:
        """Acts once, right after that many events of a kind."""
        self.bus.calls = 0
        self.bus.hook = (kind, lambda calls: act() if calls == number else None)


@pytest.fixture
def bench(queue: Store, bus: EventBus, artifacts: ArtifactStore) -> Bench:
    return Bench(queue, bus, artifacts)


@pytest.fixture
def whole(folder: Path, tmp_path: Path) -> Callable[[Quote], bytes]:
    """The clip of a quote, made without a queue."""

    def make(quote: Quote) -> bytes:
        output = tmp_path / "whole.mp4"
        list(open_engine(load_model(folder, "toyworld"), "cpu").run(quote.plan, output))
        return output.read_bytes()

    return make


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go: empty again after every attempt."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


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


def test_who_watches_sees_plan_progress_and_previews(
    bench: Bench, handler: VideoHandler, quoted: Any, submitted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "PROGRESS_S", 0.0)
    submitted(quoted(prompt="a red zeppelin"))
    job = bench.run(handler)
    events = bench.bus.read(job.id)
    kinds = [event.kind for event in events]
    assert kinds[0] == "plan" and kinds[-1] == "completed" and kinds.count("preview") >= 1
    assert events[0].data["plan"]["size"] == "64x64"
    assert events[0].data["unknown_words"] == ["zeppelin"]
    assert video_object(job)["warnings"] == ["the model never saw these words: zeppelin"]
    progress = [event.data for event in events if event.kind == "progress"]
    percents = [data["progress"] for data in progress]
    assert percents == sorted(percents) and percents[0] > 0 and percents[-1] == 99
    places = [(data["chunk"], data["chunks"], data["step"], data["steps"]) for data in progress]
    assert places == [(1, 2, 1, 2), (1, 2, 2, 2), (1, 2, 2, 2), (2, 2, 1, 2), (2, 2, 2, 2), (2, 2, 2, 2)]
    picture = Image.open(io.BytesIO(bench.bus.get_preview(job.id)))
    assert (picture.format, picture.size) == ("JPEG", (64, 64))


def test_a_preview_is_a_frame_that_is_there_or_a_steps_if_none_comes_for_long(
    bench: Bench, handler: VideoHandler, quoted: Any, submitted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shown(step_preview_s: float) -> list[int]:
        monkeypatch.setattr(attempt, "STEP_PREVIEW_S", step_preview_s)
        submitted(quoted())
        return [event.data["progress"] for event in bench.bus.read(bench.run(handler).id) if event.kind == "preview"]

    monkeypatch.setattr(attempt, "PREVIEW_S", 0.0)
    monkeypatch.setattr(attempt, "PREVIEW_SHARE", 1.0)
    assert shown(1e9) == [50, 99]  # the chunks'
    assert shown(0.0) == [16, 33, 50, 66, 83, 99]
    monkeypatch.setattr(attempt, "PREVIEW_S", 1e9)
    assert shown(1e9) == [50]


def test_between_two_words_of_progress_is_a_while_but_no_chunk_ends_unheard(
    bench: Bench, handler: VideoHandler, quoted: Any, submitted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "PROGRESS_S", 1e9)
    submitted(quoted(preset="quality"))
    job = bench.run(handler)
    told = [event.data for event in bench.bus.read(job.id) if event.kind == "progress"]
    steps = told[0]["steps"]
    assert steps > 2
    places = [(data["chunk"], data["step"]) for data in told]
    assert places == [(1, 1), (1, steps), (2, steps)]


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


@pytest.mark.parametrize("steps_done", [1, 4])  # in the first chunk; in the second
def test_a_drained_job_goes_on_elsewhere_bit_for_bit(
    steps_done: int, bench: Bench, new_handler: Any, quoted: Any, submitted: Any, whole: Any, checkpoints: Path
) -> None:
    quote = quoted()
    submitted(quote)
    drain = Drain(within_s=0)
    bench.on("progress", steps_done, drain.request)
    job = bench.run(new_handler(), drain)
    assert job.status is Status.QUEUED and job.wasted_s == 0
    assert [path.name for path in checkpoints.iterdir()] == [f"{job.id}.safetensors"]
    reached = bench.row(job).progress
    bench.bus.hook = None
    before = len(bench.bus.read(job.id))
    job = bench.run(new_handler())
    assert job.status is Status.COMPLETED and job.attempts == 2
    assert bench.video(job) == whole(quote)
    assert job.result["receipt"]["resumed"]  # type: ignore[index]
    assert list(checkpoints.iterdir()) == []
    progress = [event.data["progress"] for event in bench.bus.read(job.id)[before:] if event.kind == "progress"]
    assert min(progress) >= reached


def test_a_drained_worker_ends_what_will_soon_be_done(
    bench: Bench, handler: VideoHandler, quoted: Any, submitted: Any
) -> None:
    submitted(quoted())
    drain = Drain(within_s=1000)
    bench.on("progress", 1, drain.request)
    assert bench.run(handler, drain).status is Status.COMPLETED


def test_a_batch_job_that_makes_way_at_every_step_ends_all_the_same(
    bench: Bench, handler: VideoHandler, quoted: Any, submitted: Any, whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "ENDS_SOON_S", 0.0)
    quote = quoted()  # two chunks of two steps
    batch = submitted(quote, Tier.BATCH)
    urgent = quoted(seconds=1.0)
    parked = 0
    while True:
        bench.on("progress", 1, lambda: submitted(urgent))
        job = bench.run(handler)
        bench.bus.hook = None
        assert job.id == batch.id and job.wasted_s == 0
        if job.status is Status.COMPLETED:
            break
        parked += 1
        assert job.status is Status.QUEUED
        after = bench.run(handler)
        assert (after.tier, after.status) == (Tier.INTERACTIVE, Status.COMPLETED)
    assert parked == 4 and job.attempts == 5
    assert bench.video(job) == whole(quote)
    receipt = job.result["receipt"]  # type: ignore[index]
    assert receipt["resumed"] and receipt["charged_usd"] <= receipt["quoted_usd"]
    bench.run(handler)  # the one that waited at the end
    charged = [Decimal(str(row.result["receipt"]["charged_usd"])) for row in bench.store.list(job.tenant)]  # type: ignore[index]
    assert len(charged) == 6 and bench.store.spent_today(job.tenant) == sum(charged)


@pytest.mark.parametrize("damage", ["other weights", "not readable"])
def test_a_checkpoint_that_does_not_fit_is_started_over_on_the_house(
    damage: str, bench: Bench, new_handler: Any, quoted: Any, submitted: Any, whole: Any, checkpoints: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(attempt, "BEAT_S", 0.0)  # so that each step's spending is known to the row
    quote = quoted()
    submitted(quote)
    drain = Drain(within_s=0)
    bench.on("progress", 3, drain.request)
    job = bench.run(new_handler(), drain)
    bench.bus.hook = None
    path = checkpoints / f"{job.id}.safetensors"
    if damage == "other weights":
        replace(Checkpoint.load(path), model_hash="other").save(path)
    else:
        path.write_bytes(b"rubbish")
    job = bench.run(new_handler())
    assert job.status is Status.COMPLETED and bench.video(job) == whole(quote)
    receipt = job.result["receipt"]  # type: ignore[index]
    assert not receipt["resumed"]
    assert receipt["wasted_compute_seconds"] > 0
    assert receipt["charged_usd"] <= receipt["quoted_usd"]


def test_a_lost_lease_stops_the_attempt_and_writes_nothing(
    bench: Bench, handler: VideoHandler, quoted: Any, submitted: Any, settings: Any
) -> None:
    job = submitted(quoted())
    bench.on("progress", 1, lambda: bench.store.requeue(job.id, fence=1))
    job = bench.run(handler)
    assert job.status is Status.QUEUED and job.result is None
    assert [event.kind for event in bench.bus.read(job.id)].count("progress") == 1
    assert not (settings.data_dir / "artifacts").exists()


def test_a_worker_that_was_fenced_off_leaves_its_successors_checkpoint(
    bench: Bench, handler: VideoHandler, quoted: Any, submitted: Any, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "STEP_S", 0.0)  # saved at every step
    job = submitted(quoted())
    path = checkpoints / f"{job.id}.safetensors"

    def lose() -> None:
        bench.store.requeue(job.id, fence=1)
        path.write_bytes(b"the successor's")

    bench.on("progress", 2, lose)
    assert bench.run(handler).status is Status.QUEUED
    assert path.read_bytes() == b"the successor's"


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


def test_compute_lost_with_workers_is_on_the_receipt_and_not_charged(
    bench: Bench, new_handler: Any, quoted: Any, submitted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "BEAT_S", 0.0)  # so that each step's spending is known to the row

    def die() -> NoReturn:
        raise RuntimeError("the process is gone")

    submitted(quoted())
    lost_s = 0.0
    for _ in range(2):
        bench.on("progress", 3, die)
        job = bench.run(new_handler())
        assert job.status is Status.QUEUED
        lost_s += job.detail["spent_s"]
    bench.bus.hook = None
    job = bench.run(new_handler())
    receipt = job.result["receipt"]  # type: ignore[index]
    assert receipt["wasted_compute_seconds"] >= lost_s - 0.001 > 0
    assert receipt["compute_seconds"] == pytest.approx(sum(receipt["by_stage"].values()), abs=0.001)
    assert receipt["charged_usd"] <= receipt["price_usd"]


def test_what_lost_attempts_took_is_known_to_the_row_at_their_end(
    bench: Bench, handler: VideoHandler, quoted: Any, submitted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the last beat was ago."""
    monkeypatch.setattr(attempt, "BEAT_S", 1e9)
    submitted(quoted())
    break_engine(monkeypatch, RuntimeError("no such luck"), after=3)
    known_s = 0.0
    for status in (Status.QUEUED, Status.QUEUED, Status.FAILED):
        job = bench.run(handler)
        assert job.status is status and job.detail["device"] == "cpu"
        assert (before_s := known_s) < (known_s := job.detail["lost_s"] + job.detail["spent_s"])
        assert job.detail["lost_s"] == pytest.approx(before_s, abs=0.001)
    assert job.error_code == "internal_error" and bench.store.spent_today(job.tenant) == 0


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


def break_engine(patch: pytest.MonkeyPatch, error: Exception, after: int = 1) -> None:
    """After so many events."""
    whole = Engine.run

    def broken(self: Engine, *arguments: Any) -> Any:
        yield from itertools.islice(whole(self, *arguments), after)
        raise error

    patch.setattr(Engine, "run", broken)

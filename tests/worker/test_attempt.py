from __future__ import annotations

import io
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

import pytest
from PIL import Image

from videosvc.api.video_object import video_object
from videosvc.engine.budget import Budget
from videosvc.engine.checkpoint import Checkpoint
from videosvc.worker import attempt
from videosvc.worker.handler import VideoHandler
from videosvc_queue import context
from videosvc_queue.context import Context
from videosvc_queue.drain import Drain
from videosvc_queue.job import Job, Status
from videosvc_queue.runner import Outcome
from videosvc_queue.tiers import Tier
from worker_bench import Bench, break_engine


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


def test_a_negative_prompt_that_nothing_reads_is_a_warning(
    bench: Bench, handler: VideoHandler, quoted: Any, submitted: Any
) -> None:
    submitted(quoted(prompt="a red zeppelin", negative_prompt="rain"))
    unknown, unread = video_object(bench.run(handler))["warnings"]
    assert unknown.endswith("zeppelin") and unread.startswith("negative_prompt does nothing: ")
    submitted(quoted(negative_prompt=""))
    assert video_object(bench.run(handler))["warnings"] == []


def test_who_watches_sees_what_the_cap_took_and_what_that_saves(
    bench: Bench, handler: VideoHandler, quoted: Any, submitted: Any, measured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Budget, "steps_for", lambda budget, chunk, wanted: 2)
    quote = quoted(preset="balanced")
    measured(quote)
    submitted(replace(quote, max_compute_s=1000.0))
    events = bench.bus.read(bench.run(handler).id)
    first, *traded = (event.data["plan"] for event in events if event.kind == "plan")
    assert first["traded"] == [] and [plan["steps"] for plan in traded] == [2, 2]
    for plan in traded:
        (landing,) = plan["traded"]
        assert (landing["what"], landing["from"], landing["to"]) == ("steps", 4, 2)
        assert 0 < landing["saves_usd"] < float(quote.price_usd)


def test_a_preview_is_a_frame_that_is_there_or_a_steps_if_none_comes_for_long(
    bench: Bench, handler: VideoHandler, quoted: Any, submitted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shown(step_preview_s: float) -> list[int]:
        monkeypatch.setattr(attempt, "STEP_PREVIEW_S", step_preview_s)
        submitted(quoted())
        return [event.data["progress"] for event in bench.bus.read(bench.run(handler).id) if event.kind == "preview"]

    monkeypatch.setattr(attempt, "PREVIEW_S", 0.0)
    monkeypatch.setattr(attempt, "PREVIEW_SHARE", float("inf"))
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


def test_a_worker_that_dies_before_the_end_is_written_leaves_its_checkpoint(
    bench: Bench, new_handler: Any, quoted: Any, submitted: Any, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "STEP_S", 0.0)  # saved at every step
    job = submitted(quoted())
    handler = new_handler()

    class Died(BaseException):
        pass

    def die(job: Job, context: Context) -> Outcome:
        handler(job, context)
        raise Died

    with pytest.raises(Died):
        bench.run(die)
    bench.store.requeue(job.id, fence=1)
    job = bench.run(new_handler())
    assert job.status is Status.COMPLETED and job.result is not None
    assert job.result["receipt"]["resumed"]
    assert list(checkpoints.iterdir()) == []


def test_one_that_was_fenced_off_as_it_ended_leaves_its_successors_too(
    bench: Bench, handler: VideoHandler, quoted: Any, submitted: Any, checkpoints: Path
) -> None:
    submitted(quoted())

    def lose(job: Job, context: Context) -> Outcome:
        outcome = handler(job, context)
        bench.store.requeue(job.id, context.fence)
        (checkpoints / f"{job.id}.safetensors").write_bytes(b"the successor's")
        return outcome

    job = bench.run(lose)
    assert job.status is Status.QUEUED
    assert (checkpoints / f"{job.id}.safetensors").read_bytes() == b"the successor's"


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

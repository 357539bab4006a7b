from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from eventually import eventually
from servers import RedisServer
from videosvc_queue.context import ENDS_SOON_S, Cancelled, Context, GiveBack, LeaseLost, MakeWay
from videosvc_queue.drain import Drain
from videosvc_queue.events import EventBus
from videosvc_queue.job import Job, NewJob, Status
from videosvc_queue.patience import rest_s
from videosvc_queue.runner import Handler, Outcome, run_one
from videosvc_queue.store import Store
from videosvc_queue.tenants import TenantLimits
from videosvc_queue.tiers import Tier

DONE = Outcome(Status.COMPLETED, Decimal("0.01"), 1.5, {"answer": 42}, expires_at=2e9)


@pytest.fixture
def run(store: Store, bus: EventBus) -> Callable[..., Job]:
    """Runs the next job and returns it as it is afterwards."""

    def run(handler: Handler, drain: Drain | None = None) -> Job:
        taken = run_one(store, bus, handler, ["toy"], "worker", drain=drain, beat_s=0.02, max_losses=3)
        assert taken is not None
        job = store.get(taken.id)
        assert job is not None
        return job

    return run


def charges(store: Store) -> list[tuple[int, Decimal]]:
    return [(row.jobs, row.charged_usd) for row in store.usage("ann", 0, 1e11)]


def test_without_a_job_there_is_nothing_to_do(store: Store, bus: EventBus) -> None:
    assert run_one(store, bus, lambda job, context: DONE, ["toy"], "worker") is None


def test_a_job_ends_with_the_handlers_outcome(
    store: Store, bus: EventBus, submit: Callable[..., Job], run: Callable[..., Job]
) -> None:
    submit()

    def handler(job: Job, context: Context) -> Outcome:
        assert (job.status, job.payload, context.attempt) == (Status.IN_PROGRESS, {"prompt": "a red ball"}, 1)
        context.check()
        context.beat(progress=40, detail={"steps": 2})
        context.publish("progress", {"progress": 40})
        context.preview(b"jpeg")
        seen = store.get(job.id)
        assert seen is not None
        assert (seen.progress, seen.detail) == (40, {"steps": 2})
        return DONE

    job = run(handler)
    assert (job.status, job.result, job.progress, job.expires_at) == (Status.COMPLETED, {"answer": 42}, 100, 2e9)
    assert job.detail == {"steps": 2}
    assert charges(store) == [(1, Decimal("0.01"))]
    assert [event.kind for event in bus.read(job.id)] == ["progress", "completed"]
    assert bus.get_preview(job.id) == b"jpeg"


def test_the_heart_beats_while_a_step_computes(
    store: Store, submit: Callable[..., Job], run: Callable[..., Job]
) -> None:
    submit()

    def handler(job: Job, context: Context) -> Outcome:
        first = store.heartbeats()[job.id]
        eventually(lambda: store.heartbeats()[job.id].counter >= first.counter + 3)
        return DONE

    assert run(handler).status is Status.COMPLETED
    assert not [thread for thread in threading.enumerate() if thread.name == "videosvc-heartbeat"]


@pytest.mark.parametrize("lands", [True, False])
def test_a_cancelled_job_stops_at_its_next_step(
    store: Store, submit: Callable[..., Job], run: Callable[..., Job], lands: bool
) -> None:
    submit()

    def handler(job: Job, context: Context) -> Outcome:
        store.cancel(job.id, job.tenant)
        try:
            context.check()
        except Cancelled:
            if lands:
                return Outcome(Status.CANCELLED, Decimal("0.002"), 0.5)
            raise
        raise AssertionError

    assert run(handler).status is Status.CANCELLED
    assert [usd for _, usd in charges(store)] == ([Decimal("0.002")] if lands else [Decimal(0)])


def test_a_job_taken_by_another_is_left_alone(
    store: Store, bus: EventBus, submit: Callable[..., Job], run: Callable[..., Job]
) -> None:
    submit()

    def handler(job: Job, context: Context) -> Outcome:
        store.requeue(job.id, context.fence)
        with pytest.raises(LeaseLost):
            context.check()
        with pytest.raises(LeaseLost):
            context.beat(progress=99, detail={"mine": True})
        return DONE  # a handler that asked no more

    job = run(handler)
    assert (job.status, job.progress, job.detail) == (Status.QUEUED, 0, {})
    assert charges(store) == []
    assert bus.read(job.id) == []
    assert run(lambda job, context: DONE).status is Status.COMPLETED
    assert charges(store) == [(1, Decimal("0.01"))]


@pytest.mark.parametrize("taken", [False, True])
def test_what_is_to_follow_the_end_waits_until_it_is_written(
    store: Store, submit: Callable[..., Job], run: Callable[..., Job], taken: bool
) -> None:
    seen: list[Status] = []

    def handler(job: Job, context: Context) -> Outcome:
        def look() -> None:
            row = store.get(job.id)
            assert row is not None
            seen.append(row.status)

        if taken:
            store.requeue(job.id, context.fence)
        return replace(DONE, on_end=look)

    submit()
    assert run(handler).status is (Status.QUEUED if taken else Status.COMPLETED)
    assert seen == ([] if taken else [Status.COMPLETED])


def test_a_lost_lease_needs_no_handling(store: Store, submit: Callable[..., Job], run: Callable[..., Job]) -> None:
    submit()

    def handler(job: Job, context: Context) -> Outcome:
        store.requeue(job.id, context.fence)
        context.check()
        raise AssertionError

    assert run(handler).status is Status.QUEUED


def test_a_job_given_back_goes_on_elsewhere(store: Store, submit: Callable[..., Job], run: Callable[..., Job]) -> None:
    submit()

    def handler(job: Job, context: Context) -> Outcome:
        raise GiveBack(wasted_s=0.25)

    job = run(handler)
    assert (job.status, job.wasted_s) == (Status.QUEUED, 0.25)
    assert len(store.due_outbox()) == 2  # its first bell, and one for the next attempt
    assert run(lambda job, context: DONE).attempts == 2


def test_the_end_of_a_cancelled_job_that_is_given_back_is_told(
    store: Store, bus: EventBus, submit: Callable[..., Job], run: Callable[..., Job]
) -> None:
    submit()

    def handler(job: Job, context: Context) -> Outcome:
        store.cancel(job.id, job.tenant)
        raise GiveBack

    job = run(handler)
    assert job.status is Status.CANCELLED
    assert [event.kind for event in bus.read(job.id)] == ["cancelled"]


def test_a_job_given_back_often_may_still_raise(
    submit: Callable[..., Job], run: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit()

    def give_back(job: Job, context: Context) -> Outcome:
        raise GiveBack

    def fail(job: Job, context: Context) -> Outcome:
        raise RuntimeError

    for _ in range(5):
        assert run(give_back).status is Status.QUEUED
    monkeypatch.setattr("videosvc_queue.patience.FIRST_REST_S", 0.01)
    assert [run(fail).status for _ in range(3)] == [Status.QUEUED, Status.QUEUED, Status.FAILED]


def test_batch_is_parked_for_interactive_unless_it_ends_soon(
    store: Store, submit: Callable[..., Job], run: Callable[..., Job]
) -> None:
    submit(tier=Tier.BATCH)

    def handler(job: Job, context: Context) -> Outcome:
        urgent = submit()
        context.make_way(remaining_s=ENDS_SOON_S / 2)
        store.cancel(urgent.id, urgent.tenant)
        return DONE

    assert run(handler).status is Status.COMPLETED
    submit(tier=Tier.BATCH)

    def parked(job: Job, context: Context) -> Outcome:
        submit()
        with pytest.raises(MakeWay):
            context.make_way(remaining_s=60)
        raise GiveBack

    assert run(parked).status is Status.QUEUED
    urgent = run(lambda job, context: DONE)
    assert urgent.tier is Tier.INTERACTIVE

    def not_parked(job: Job, context: Context) -> Outcome:
        assert job.tier is Tier.BATCH
        context.make_way()
        return DONE

    assert run(not_parked).attempts == 2


def test_a_drain_stops_what_does_not_end_in_time(submit: Callable[..., Job], run: Callable[..., Job]) -> None:
    submit()
    drain = Drain(within_s=60)

    def handler(job: Job, context: Context) -> Outcome:
        context.check(remaining_s=1e9)
        drain.request()
        context.check(remaining_s=5)
        context.beat(remaining_s=5)
        for remaining_s in (None, 100):
            with pytest.raises(MakeWay):
                context.check(remaining_s)
        context.check()
        raise AssertionError

    assert run(handler, drain).status is Status.QUEUED


def test_no_job_is_taken_during_a_drain(store: Store, bus: EventBus, submit: Callable[..., Job]) -> None:
    submit()
    drain = Drain()
    drain.request()
    assert run_one(store, bus, lambda job, context: DONE, ["toy"], "worker", drain=drain) is None


def test_a_handler_that_raises_is_tried_again_then_fails(
    store: Store, bus: EventBus, submit: Callable[..., Job], run: Callable[..., Job],
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("videosvc_queue.patience.FIRST_REST_S", 0.01)
    submit()

    def handler(job: Job, context: Context) -> Outcome:
        raise RuntimeError("secret path /home/ann")

    assert [run(handler).status for _ in range(2)] == [Status.QUEUED] * 2
    job = run(handler)
    assert (job.status, job.error_code) == (Status.FAILED, "internal_error")
    assert job.error_message == "the job failed while it ran"  # what went wrong is for the log
    assert "secret path" in caplog.text
    assert [usd for _, usd in charges(store)] == [Decimal(0)]
    assert [event.kind for event in bus.read(job.id)] == ["failed"]


@pytest.mark.parametrize("why", ["cancelled", "drain", "lost"])
def test_the_rest_after_an_attempt_that_failed_ends_when_it_is_to(
    store: Store, submit: Callable[..., Job], run: Callable[..., Job], monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setattr("videosvc_queue.patience.FIRST_REST_S", 1e6)
    monkeypatch.setattr("videosvc_queue.patience.LONGEST_REST_S", 1e6)
    drain = Drain(0.0)
    submit()

    def handler(job: Job, context: Context) -> Outcome:
        match why:
            case "cancelled":
                store.cancel(job.id, job.tenant)
            case "drain":
                drain.request()
            case "lost":
                store.requeue(job.id, context.fence)
        raise RuntimeError("no such luck")

    job = run(handler, drain)
    assert job.status is (Status.CANCELLED if why == "cancelled" else Status.QUEUED)
    assert job.attempts == 1


def test_each_rest_is_twice_as_long_up_to_half_a_minute() -> None:
    assert [rest_s(failed) for failed in range(6)] == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_runs_to_its_end_without_redis(
    store: Store, own_redis: RedisServer, submit: Callable[..., Job]
) -> None:
    submit()
    bus = EventBus(own_redis.url)
    own_redis.kill()

    def handler(job: Job, context: Context) -> Outcome:
        context.publish("progress", {})
        context.preview(b"")
        return DONE

    taken = run_one(store, bus, handler, ["toy"], "worker")
    assert taken is not None
    assert getattr(store.get(taken.id), "status", None) is Status.COMPLETED


def test_waits_for_a_database_that_is_away_for_a_moment(
    tmp_path: Path, redis_url: str, new_job: Callable[..., NewJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("videosvc_queue.patience.PAUSE_S", 0.05)
    path = tmp_path / "jobs.db"
    bus = EventBus(redis_url)
    with Store(f"sqlite:///{path}") as store:
        store.migrate()
        store.submit(new_job(), TenantLimits())

        def handler(job: Job, context: Context) -> Outcome:
            store.close()  # its connections; the next ones find no file they can open
            path.rename(tmp_path / "away.db")
            path.mkdir()
            context.check()
            context.beat(progress=50)
            threading.Timer(0.3, bring_back).start()
            return DONE

        def bring_back() -> None:
            path.rmdir()
            (tmp_path / "away.db").rename(path)

        taken = run_one(store, bus, handler, ["toy"], "worker", beat_s=0.02)
        assert taken is not None
        assert getattr(store.get(taken.id), "status", None) is Status.COMPLETED
    bus.close()

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest
from sqlalchemy.exc import IntegrityError, StatementError

from clock import Clock
from videosvc_queue.errors import QueueFull, QuotaExceeded
from videosvc_queue.job import Ahead, Beat, NewJob, Status
from videosvc_queue.store import Store
from videosvc_queue.tenants import TenantLimits
from videosvc_queue.tiers import Tier

NewJobs = Callable[..., NewJob]
LIMITS = TenantLimits()


def test_what_was_submitted_comes_back(store: Store, new_job: NewJobs) -> None:
    new = new_job(metadata={"shot": "3"}, webhook_url="https://example.com/done", tier=Tier.BATCH)
    job, replayed = store.submit(new, LIMITS)
    assert not replayed
    assert store.get(new.id) == job
    for name in ("id", "tenant", "tier", "route", "payload", "predicted_s", "hold_usd", "max_run_s", "webhook_url"):
        assert getattr(job, name) == getattr(new, name)
    assert job.metadata == {"shot": "3"}
    assert (job.status, job.progress, job.attempts, job.cancel_requested) == (Status.QUEUED, 0, 0, False)
    assert isinstance(job.status, Status)
    assert isinstance(job.tier, Tier)


def test_a_submit_that_fails_leaves_nothing(store: Store, new_job: NewJobs) -> None:
    job, _ = store.submit(new_job(), LIMITS)
    with pytest.raises(IntegrityError):
        store.submit(replace(new_job(predicted_s=1e6), id=job.id), LIMITS)
    assert store.get(job.id) == job and store.spent_today("ann") == job.hold_usd
    assert len(store.due_outbox()) == 1
    other, _ = store.submit(new_job(), LIMITS)
    assert store.ahead(other).compute_s == job.predicted_s


def test_a_tenant_sees_only_its_own(store: Store, new_job: NewJobs) -> None:
    job, _ = store.submit(new_job(tenant="ann"), LIMITS)
    assert store.get(job.id, "bob") is None
    assert store.list("bob") == []
    assert store.delete(job.id, "bob") is None
    with pytest.raises(LookupError):
        store.cancel(job.id, "bob")
    with pytest.raises(LookupError):
        store.list("bob", after=job.id)
    assert store.get(job.id, "ann") == job


def test_pages_join_up_both_ways(store: Store, new_job: NewJobs) -> None:
    ids = [store.submit(new_job(), LIMITS)[0].id for _ in range(5)]
    newest_first = [job.id for job in store.list("ann")]
    assert newest_first == ids[::-1]
    assert [job.id for job in store.list("ann", limit=2)] == ids[:2:-1]
    assert [job.id for job in store.list("ann", after=ids[3], limit=2)] == [ids[2], ids[1]]
    assert [job.id for job in store.list("ann", after=ids[1], limit=2, order="asc")] == [ids[2], ids[3]]
    assert store.list("ann", after=ids[0]) == []


def test_pages_join_up_across_jobs_of_one_instant(
    database_url: str, clock: Clock, new_job: NewJobs
) -> None:
    with Store(database_url, clock) as store:
        ids = [store.submit(new_job(), LIMITS)[0].id for _ in range(4)]
        first = store.list("ann", limit=2)
        rest = store.list("ann", after=first[-1].id)
        assert sorted(job.id for job in (*first, *rest)) == ids


def check(store: Store, job_id: str, fence: int) -> Beat:
    with store.watch(job_id, fence) as watch:
        return watch.check()


def test_a_run_from_claim_to_finish(store: Store, new_job: NewJobs) -> None:
    new = new_job()
    store.submit(new, LIMITS)
    claim = store.claim(["toy"], "worker-1")
    assert claim is not None
    assert (claim.job.status, claim.job.worker, claim.job.attempts) == (Status.IN_PROGRESS, "worker-1", 1)
    assert store.beat(new.id, claim.fence, progress=40, detail={"steps": 4}) is Beat.CONTINUE
    assert check(store, new.id, claim.fence) is Beat.CONTINUE
    running = store.get(new.id)
    assert running is not None
    assert (running.progress, running.detail) == (40, {"steps": 4})
    assert store.beat(new.id, claim.fence) is Beat.CONTINUE  # what is not said stays
    running = store.get(new.id)
    assert running is not None
    assert (running.progress, running.detail) == (40, {"steps": 4})
    assert store.finish(
        new.id, claim.fence, Status.COMPLETED, result={"video": "a.mp4"}, charge_usd=Decimal("0.02"), expires_at=9e9
    )
    done = store.get(new.id)
    assert done is not None
    assert (done.status, done.progress, done.result, done.expires_at) == (
        Status.COMPLETED, 100, {"video": "a.mp4"}, 9e9,
    )
    assert done.completed_at is not None
    assert done.detail == {"steps": 4}
    assert check(store, new.id, claim.fence) is Beat.LOST


def test_a_watch_sees_what_happens_between_two_questions(store: Store, new_job: NewJobs) -> None:
    store.submit(new_job(), LIMITS)
    claim = store.claim(["toy"], "worker-1")
    assert claim is not None
    with store.watch(claim.job.id, claim.fence) as watch:
        for progress in range(20):  # psycopg prepares a statement after some
            assert watch.check() is Beat.CONTINUE
            store.beat(claim.job.id, claim.fence, progress=progress)
        store.cancel(claim.job.id, "ann")
        assert watch.check() is Beat.CANCEL
        store.requeue(claim.job.id, claim.fence)
        assert watch.check() is Beat.LOST


def test_a_failure_keeps_progress_and_reason(store: Store, new_job: NewJobs) -> None:
    store.submit(new_job(), LIMITS)
    claim = store.claim(["toy"], "worker-1")
    assert claim is not None
    store.beat(claim.job.id, claim.fence, progress=30)
    store.finish(
        claim.job.id, claim.fence, Status.FAILED, result=None, charge_usd=Decimal(0),
        error_code="out_of_memory", error_message="the device has too little memory",
    )
    failed = store.get(claim.job.id)
    assert failed is not None
    assert (failed.status, failed.progress) == (Status.FAILED, 30)
    assert (failed.error_code, failed.error_message) == ("out_of_memory", "the device has too little memory")


def test_finish_takes_ends_only(store: Store, new_job: NewJobs) -> None:
    store.submit(new_job(), LIMITS)
    claim = store.claim(["toy"], "worker-1")
    assert claim is not None
    with pytest.raises(ValueError, match="queued is no end"):
        store.finish(claim.job.id, claim.fence, Status.QUEUED, result=None, charge_usd=Decimal(0))
    assert check(store, claim.job.id, claim.fence) is Beat.CONTINUE


def test_cancelling_a_queued_job_ends_it(store: Store, new_job: NewJobs) -> None:
    new = new_job()
    store.submit(new, LIMITS)
    cancelled = store.cancel(new.id, "ann")
    assert cancelled.status is Status.CANCELLED
    assert store.claim(["toy"], "worker-1") is None
    assert store.cancel(new.id, "ann") == cancelled


def test_cancelling_a_running_job_asks_its_worker(store: Store, new_job: NewJobs) -> None:
    new = new_job()
    store.submit(new, LIMITS)
    claim = store.claim(["toy"], "worker-1")
    assert claim is not None
    asked = store.cancel(new.id, "ann")
    assert (asked.status, asked.cancel_requested) == (Status.IN_PROGRESS, True)
    assert check(store, new.id, claim.fence) is Beat.CANCEL
    assert store.beat(new.id, claim.fence) is Beat.CANCEL
    assert store.finish(new.id, claim.fence, Status.CANCELLED, result=None, charge_usd=Decimal("0.01"))
    assert store.cancel(new.id, "ann").status is Status.CANCELLED


def test_a_job_that_ends_before_it_hears_of_the_cancel_is_completed(store: Store, new_job: NewJobs) -> None:
    new = new_job()
    store.submit(new, LIMITS)
    claim = store.claim(["toy"], "worker-1")
    assert claim is not None
    store.cancel(new.id, "ann")
    assert store.finish(new.id, claim.fence, Status.COMPLETED, result={}, charge_usd=Decimal("0.01"))
    assert store.cancel(new.id, "ann").status is Status.COMPLETED


@pytest.mark.parametrize("way", ["give_back", "requeue"])
def test_a_cancelled_job_whose_worker_goes_is_not_run_again(store: Store, new_job: NewJobs, way: str) -> None:
    new = new_job()
    store.submit(new, LIMITS)
    claim = store.claim(["toy"], "worker-1")
    assert claim is not None
    store.cancel(new.id, "ann")
    if way == "give_back":
        assert store.give_back(new.id, claim.fence) is Status.CANCELLED
    else:
        assert store.requeue(new.id, claim.fence) is Status.CANCELLED
    job = store.get(new.id)
    assert job is not None
    assert job.status is Status.CANCELLED


def test_deleting_hides_a_job_and_lets_its_artifacts_expire(store: Store, new_job: NewJobs) -> None:
    new = new_job()
    store.submit(new, LIMITS)
    claim = store.claim(["toy"], "worker-1")
    assert claim is not None
    store.finish(new.id, claim.fence, Status.COMPLETED, result={}, charge_usd=Decimal(0), expires_at=9e9)
    assert store.expired_artifacts(now=8e9, limit=10) == []
    deleted = store.delete(new.id, "ann")
    assert deleted is not None
    assert store.get(new.id) is None
    assert store.list("ann") == []
    assert store.delete(new.id, "ann") is None
    assert [job.id for job in store.expired_artifacts(now=8e9, limit=10)] == [new.id]
    store.mark_removed(new.id, {})
    assert store.expired_artifacts(now=8e9, limit=10) == []


def test_deleting_a_running_job_stops_it_first(store: Store, new_job: NewJobs) -> None:
    new = new_job()
    store.submit(new, LIMITS)
    claim = store.claim(["toy"], "worker-1")
    assert claim is not None
    deleted = store.delete(new.id, "ann")
    assert deleted is not None
    assert deleted.cancel_requested
    assert store.beat(new.id, claim.fence) is Beat.CANCEL
    # What it kept of the clip expires at once: nobody can ask for it any more.
    store.finish(new.id, claim.fence, Status.CANCELLED, result={}, charge_usd=Decimal(0), expires_at=9e9)
    assert [job.id for job in store.expired_artifacts(now=8e9, limit=10)] == [new.id]


def test_ahead_adds_up_what_runs_before(store: Store, new_job: NewJobs) -> None:
    running = new_job(predicted_s=20.0)
    store.submit(running, LIMITS)
    claim = store.claim(["toy"], "worker-1")
    assert claim is not None
    store.beat(running.id, claim.fence, progress=75)
    store.submit(new_job(predicted_s=7.0), LIMITS)
    store.submit(new_job(predicted_s=100.0, tier=Tier.BATCH), LIMITS)
    last, _ = store.submit(new_job(predicted_s=1.0), LIMITS)
    store.register_worker("worker-1", ["toy"], "cpu")
    assert store.ahead(last) == Ahead(jobs=1, compute_s=12.0, workers=1)


def test_ahead_is_all_that_the_workers_of_the_route_take(
    database_url: str, clock: Clock, new_job: NewJobs
) -> None:
    with Store(database_url, clock) as store:
        for route, predicted_s in (("toy", 40.0), ("wan", 20.0), ("wan", 9.0), ("far", 5.0)):
            store.submit(new_job(tenant=f"{route} {predicted_s}", route=route, predicted_s=predicted_s), LIMITS)
        store.register_worker("two", ["toy", "wan"], "cpu")
        store.register_worker("three", ["wan", "far"], "cpu")
        claim = store.claim(["toy", "wan"], "two")
        assert claim is not None and claim.job.predicted_s == 40.0
        store.beat(claim.job.id, claim.fence, progress=75)
        last, _ = store.submit(new_job(predicted_s=1.0), LIMITS)
        assert store.ahead(last) == Ahead(jobs=2, compute_s=39.0, workers=1)
        clock.now += 1
        assert store.ahead_of_next("bob", "toy", Tier.INTERACTIVE) == Ahead(jobs=3, compute_s=40.0, workers=1)
        assert store.ahead_of_next("bob", "wan", Tier.INTERACTIVE) == Ahead(jobs=4, compute_s=45.0, workers=2)
        clock.now += 30
        assert store.ahead(last) == Ahead(jobs=0, compute_s=10.0, workers=0), "of the route itself, without any"


def test_as_many_queued_as_allowed(store: Store, new_job: NewJobs) -> None:
    limits = TenantLimits(max_queued=2)
    for _ in range(2):
        store.submit(new_job(), limits)
    with pytest.raises(QueueFull, match="2 jobs are queued already") as refused:
        store.submit(new_job(), limits)
    assert refused.value.retry_after_s >= 1
    store.submit(new_job(tenant="bob"), limits)
    assert store.claim(["toy"], "worker-1") is not None
    store.submit(new_job(), limits)


def test_as_many_a_minute_as_allowed(database_url: str, clock: Clock, new_job: NewJobs) -> None:
    limits = TenantLimits(per_minute=2)
    with Store(database_url, clock) as store:
        store.submit(new_job(), limits)
        clock.now += 20
        store.submit(new_job(), limits)
        clock.now += 10
        with pytest.raises(QuotaExceeded, match="2 jobs a minute are the most") as refused:
            store.submit(new_job(), limits)
        assert (refused.value.what, refused.value.retry_after_s) == ("per_minute", 30.0)
        clock.now += 30
        store.submit(new_job(), limits)


def test_heartbeats_count_the_beats(store: Store, new_job: NewJobs) -> None:
    store.submit(new_job(), LIMITS)
    assert store.heartbeats() == {}
    claim = store.claim(["toy"], "worker-1")
    assert claim is not None
    before = store.heartbeats()[claim.job.id]
    assert before.fence == claim.fence
    with store.watch(claim.job.id, claim.fence) as watch:
        watch.check()
    assert store.heartbeats()[claim.job.id] == before
    store.beat(claim.job.id, claim.fence)
    assert store.heartbeats()[claim.job.id] != before


def test_workers_are_live_while_they_say_so(database_url: str, clock: Clock) -> None:
    with Store(database_url, clock) as store:
        store.register_worker("one", ["toy", "wan"], "cuda:0")
        store.register_worker("two", ["toy"], "cpu")
        assert [(worker.name, worker.routes) for worker in store.live_workers()] == [
            ("one", ("toy", "wan")), ("two", ("toy",)),
        ]
        store.register_worker("one", ["wan"], "cuda:0", {"clips": 3}, {"flying": "it has no wings"})
        assert [worker.name for worker in store.live_workers("toy")] == ["two"]
        assert [worker.figures for worker in store.live_workers()] == [{"clips": 3}, {}]
        assert [worker.refuses for worker in store.live_workers()] == [{"flying": "it has no wings"}, {}]
        clock.now += 31
        store.register_worker("one", ["wan"], "cuda:0")
        assert [worker.name for worker in store.live_workers()] == ["one"]
        store.forget_worker("one")
        assert store.live_workers() == []


def test_quotes_are_their_tenants(store: Store) -> None:
    store.save_quote("quote_1", "ann", {"price_usd": "0.03"}, expires_at=5.0)
    quote = store.get_quote("quote_1", "ann")
    assert quote is not None
    assert (quote.body, quote.expires_at) == ({"price_usd": "0.03"}, 5.0)
    assert store.get_quote("quote_1", "bob") is None
    store.tidy(1e9)  # expired long ago
    assert store.get_quote("quote_1", "ann") is None


def test_a_payload_that_is_no_json_is_refused(store: Store, new_job: NewJobs) -> None:
    with pytest.raises((ValueError, StatementError), match="not JSON compliant"):
        store.submit(new_job(payload={"cost": float("nan")}), LIMITS)
    assert store.list("ann") == []

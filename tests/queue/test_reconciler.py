from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
import redis
from sqlalchemy.exc import OperationalError

from videosvc_queue.celery_app import make_celery
from videosvc_queue.events import EventBus
from videosvc_queue.job import Beat, Claim, Job, Status
from videosvc_queue.reconciler import Reconciler
from videosvc_queue.store import Store
from videosvc_queue.tiers import Tier


class Steady:
    """A monotonic clock that moves when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def steady() -> Steady:
    return Steady()


@pytest.fixture
def reconciler(store: Store, redis_url: str, bus: EventBus, steady: Steady) -> Reconciler:
    return Reconciler(store, make_celery(redis_url), bus, lease_s=30, every_s=2, clock=steady)


@pytest.fixture
def watch(reconciler: Reconciler, steady: Steady) -> Callable[[float], None]:
    """Ticks every 2 s for so many seconds."""

    def watch(seconds: float) -> None:
        reconciler.tick()
        for _ in range(int(seconds / 2)):
            steady.now += 2
            reconciler.tick()

    return watch


def claim(store: Store) -> Claim:
    claimed = store.claim(["toy", "other"], "worker")
    assert claimed is not None
    return claimed


def status(store: Store, job_id: str) -> Status:
    job = store.get(job_id)
    assert job is not None
    return job.status


def bells(redis_url: str) -> dict[str, int]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        return {key: client.llen(key) for key in client.keys("videosvc.*")}


def test_a_silent_workers_job_is_queued_again_and_its_worker_fenced_off(
    store: Store, submit: Callable[..., Job], watch: Callable[[float], None]
) -> None:
    job = submit()
    first = claim(store)
    watch(28)
    assert status(store, job.id) is Status.IN_PROGRESS
    watch(4)
    assert status(store, job.id) is Status.QUEUED
    assert store.beat(job.id, first.fence) is Beat.LOST
    second = claim(store)
    assert second.fence > first.fence
    assert not store.finish(job.id, first.fence, Status.COMPLETED, result={}, charge_usd=Decimal("0.01"))
    assert store.finish(job.id, second.fence, Status.COMPLETED, result={}, charge_usd=Decimal("0.01"))


def test_a_beating_worker_keeps_its_job(
    store: Store, submit: Callable[..., Job], watch: Callable[[float], None]
) -> None:
    job = submit()
    lease = claim(store)
    for _ in range(5):
        watch(20)
        store.beat(job.id, lease.fence)
    assert status(store, job.id) is Status.IN_PROGRESS


def test_a_new_attempt_has_a_whole_lease(
    store: Store, submit: Callable[..., Job], watch: Callable[[float], None]
) -> None:
    job = submit()
    lease = claim(store)
    watch(24)
    store.give_back(job.id, lease.fence)
    claim(store)
    watch(24)
    assert status(store, job.id) is Status.IN_PROGRESS


def test_time_nobody_watched_is_no_silence(
    store: Store, submit: Callable[..., Job], reconciler: Reconciler, steady: Steady, watch: Callable[[float], None]
) -> None:
    job = submit()
    claim(store)
    watch(2)
    for _ in range(3):  # the process stood still, or the database was away
        steady.now += 3600
        reconciler.tick()
    assert status(store, job.id) is Status.IN_PROGRESS


def test_after_three_lost_workers_the_job_fails_uncharged(
    store: Store, bus: EventBus, submit: Callable[..., Job], watch: Callable[[float], None]
) -> None:
    job = submit()
    for _ in range(3):
        claim(store)
        watch(32)
    failed = store.get(job.id)
    assert failed is not None
    assert (failed.status, failed.error_code, failed.attempts) == (Status.FAILED, "worker_lost", 3)
    assert [row.charged_usd for row in store.usage("ann", 0, 1e11)] == [Decimal(0)]
    assert [event.kind for event in bus.read(job.id)] == ["failed"]


def test_a_cancelled_job_of_a_lost_worker_ends(
    store: Store, bus: EventBus, submit: Callable[..., Job], watch: Callable[[float], None]
) -> None:
    job = submit()
    claim(store)
    store.cancel(job.id, "ann")
    watch(32)
    assert status(store, job.id) is Status.CANCELLED
    assert [event.kind for event in bus.read(job.id)] == ["cancelled"]


def test_rings_again_for_a_lost_bell_and_only_once(
    redis_url: str, submit: Callable[..., Job], watch: Callable[[float], None]
) -> None:
    submit()
    submit(tier=Tier.BATCH, route="other")
    watch(20)
    assert sorted(bells(redis_url).values()) == [1, 1]


def test_rings_for_as_many_as_can_come(
    store: Store, redis_url: str, submit: Callable[..., Job], watch: Callable[[float], None]
) -> None:
    for _ in range(5):
        submit()
    for name in "abc":
        store.register_worker(name, ["toy"], "cpu")
    watch(0)
    assert bells(redis_url) == {"videosvc.toy": 3}


def test_no_jobs_no_bells(redis_url: str, watch: Callable[[float], None]) -> None:
    watch(4)
    assert bells(redis_url) == {}


def test_two_reconcilers_take_a_job_away_once(
    store: Store, redis_url: str, bus: EventBus, steady: Steady, submit: Callable[..., Job]
) -> None:
    job = submit()
    claim(store)
    replicas = [
        Reconciler(store, make_celery(redis_url), bus, lease_s=30, every_s=2, clock=steady) for _ in range(2)
    ]
    for _ in range(20):
        for replica in replicas:
            replica.tick()
        steady.now += 2
    again = claim(store).job
    assert (again.id, again.attempts, again.fence) == (job.id, 2, 3)


def test_a_database_that_is_away_is_waited_for(
    store: Store, submit: Callable[..., Job], reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit()

    def away() -> None:
        raise OperationalError("SELECT", {}, Exception("gone"))

    with monkeypatch.context() as patch:
        patch.setattr(store, "heartbeats", away)
        with pytest.raises(OperationalError):
            reconciler.tick()
    reconciler.tick()

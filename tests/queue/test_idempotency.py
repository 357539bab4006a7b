from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from clock import Clock
from videosvc_queue.errors import IdempotencyConflict, QueueFull
from videosvc_queue.job import NewJob
from videosvc_queue.store import Store
from videosvc_queue.tenants import TenantLimits

NewJobs = Callable[..., NewJob]
LIMITS = TenantLimits()


def test_the_same_key_and_body_is_the_same_job(store: Store, new_job: NewJobs) -> None:
    first, _ = store.submit(new_job(idempotency_key="k", body_hash="b"), LIMITS)
    assert store.submit(new_job(idempotency_key="k", body_hash="b"), LIMITS) == (first, True)
    assert store.replay("ann", "k", "b") == first
    assert store.list("ann") == [first]
    assert len(store.due_outbox()) == 1
    assert store.spent_today("ann") == first.hold_usd


def test_the_replay_is_the_job_as_it_is_now(store: Store, new_job: NewJobs) -> None:
    first, _ = store.submit(new_job(idempotency_key="k", body_hash="b"), LIMITS)
    cancelled = store.cancel(first.id, "ann")
    assert store.submit(new_job(idempotency_key="k", body_hash="b"), LIMITS) == (cancelled, True)


def test_another_body_is_refused(store: Store, new_job: NewJobs) -> None:
    store.submit(new_job(idempotency_key="k", body_hash="b"), LIMITS)
    with pytest.raises(IdempotencyConflict, match="'k' was used with another body"):
        store.submit(new_job(idempotency_key="k", body_hash="c"), LIMITS)
    with pytest.raises(IdempotencyConflict):
        store.replay("ann", "k", "c")
    assert len(store.list("ann")) == 1


def test_keys_are_a_tenants_own(store: Store, new_job: NewJobs) -> None:
    store.submit(new_job(tenant="ann", idempotency_key="k", body_hash="b"), LIMITS)
    assert store.replay("bob", "k", "c") is None
    _, replayed = store.submit(new_job(tenant="bob", idempotency_key="k", body_hash="c"), LIMITS)
    assert not replayed


def test_a_refused_job_leaves_its_key_free(store: Store, new_job: NewJobs) -> None:
    with pytest.raises(QueueFull):
        store.submit(new_job(idempotency_key="k", body_hash="b"), TenantLimits(max_queued=0))
    _, replayed = store.submit(new_job(idempotency_key="k", body_hash="c"), LIMITS)
    assert not replayed


@pytest.mark.parametrize("tidied", [False, True])
def test_a_key_is_free_again_after_a_day(
    database_url: str, clock: Clock, new_job: NewJobs, tidied: bool
) -> None:
    with Store(database_url, clock) as store:
        store.submit(new_job(idempotency_key="k", body_hash="b"), LIMITS)
        clock.now += 24 * 3600 - 1
        assert store.replay("ann", "k", "b") is not None
        clock.now += 1
        if tidied:
            store.tidy(1e9)
        assert store.replay("ann", "k", "c") is None
        second, replayed = store.submit(new_job(idempotency_key="k", body_hash="c"), LIMITS)
        assert not replayed
        assert store.replay("ann", "k", "c") == second


def test_submits_at_once_make_one_job(store: Store, database_url: str, new_job: NewJobs) -> None:
    """Over two stores, as two processes have."""
    news = [new_job(idempotency_key=f"k{n % 3}", body_hash="b") for n in range(24)]
    with Store(database_url) as other, ThreadPoolExecutor(8) as threads:
        stores = [store, other] * 12
        answers = list(threads.map(lambda where, new: where.submit(new, LIMITS), stores, news))
    assert len(store.list("ann")) == 3
    assert sum(not replayed for _, replayed in answers) == 3
    for key in range(3):
        assert len({job.id for job, _ in answers[key::3]}) == 1

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

from videosvc_queue.job import Beat, NewJob, Status
from videosvc_queue.store import Store
from videosvc_queue.tenants import TenantLimits

NewJobs = Callable[..., NewJob]
LIMITS = TenantLimits(max_concurrent=1000)


def test_nothing_to_claim(store: Store, new_job: NewJobs) -> None:
    assert store.claim(["toy"], "worker-1") is None
    store.submit(new_job(route="wan"), LIMITS)
    assert store.claim(["toy"], "worker-1") is None
    assert store.claim(["toy", "wan"], "worker-1") is not None
    assert store.claim(["toy", "wan"], "worker-1") is None


def test_an_older_fence_is_refused_everywhere(store: Store, new_job: NewJobs) -> None:
    new = new_job()
    store.submit(new, LIMITS)
    stale = store.claim(["toy"], "frozen")
    assert stale is not None
    assert store.requeue(new.id, stale.fence) is Status.QUEUED
    fresh = store.claim(["toy"], "thawed")
    assert fresh is not None
    assert fresh.fence > stale.fence
    assert store.beat(new.id, stale.fence, progress=99) is Beat.LOST
    with store.watch(new.id, stale.fence) as watch:
        assert watch.check() is Beat.LOST
    assert not store.give_back(new.id, stale.fence)
    assert store.requeue(new.id, stale.fence) is None
    assert not store.finish(new.id, stale.fence, Status.COMPLETED, result={}, charge_usd=Decimal("0.01"))
    assert store.get(new.id) == fresh.job


def test_a_queued_job_cannot_be_finished_under_the_fence_it_has(store: Store, new_job: NewJobs) -> None:
    new = new_job()
    store.submit(new, LIMITS)
    queued = store.get(new.id)
    assert queued is not None
    for status in (Status.COMPLETED, Status.CANCELLED):
        assert not store.finish(new.id, queued.fence, status, result={}, charge_usd=Decimal(0))
    assert store.beat(new.id, queued.fence) is Beat.LOST
    assert store.get(new.id) == queued


def test_a_job_given_back_keeps_its_place_and_its_waste(store: Store, new_job: NewJobs) -> None:
    first, second = new_job(), new_job()
    store.submit(first, LIMITS)
    store.submit(second, LIMITS)
    claim = store.claim(["toy"], "worker-1")
    assert claim is not None
    assert store.give_back(first.id, claim.fence, wasted_s=1.5)
    again = store.claim(["toy"], "worker-2")
    assert again is not None
    assert (again.job.id, again.job.attempts, again.job.wasted_s) == (first.id, 2, 1.5)
    assert again.job.started_at == claim.job.started_at


def test_giving_back_is_no_loss(store: Store, new_job: NewJobs) -> None:
    """A batch job that made way many times may still lose a worker."""
    new = new_job()
    store.submit(new, LIMITS)
    for _ in range(5):
        claim = store.claim(["toy"], "worker-1")
        assert claim is not None
        store.give_back(new.id, claim.fence)
    claim = store.claim(["toy"], "worker-1")
    assert claim is not None
    assert store.requeue(new.id, claim.fence) is Status.QUEUED


def _claim_all(store: Store, worker: str) -> list[str]:
    claimed: list[str] = []
    while claim := store.claim(["toy"], worker):
        claimed.append(claim.job.id)
    return claimed


def _claim_all_in(database_url: str) -> list[str]:
    with Store(database_url) as store:
        return _claim_all(store, "process")


def test_threads_and_processes_claim_each_job_once(store: Store, database_url: str, new_job: NewJobs) -> None:
    ids = [store.submit(new_job(tenant=f"tenant-{n % 3}"), LIMITS)[0].id for n in range(60)]
    with multiprocessing.get_context("spawn").Pool(2) as processes, ThreadPoolExecutor(3) as threads:
        elsewhere = processes.map_async(_claim_all_in, [database_url] * 2, chunksize=1)
        here = list(threads.map(lambda number: _claim_all(store, f"thread-{number}"), range(3)))
        claimed = Counter(job_id for part in (*here, *elsewhere.get(timeout=60)) for job_id in part)
    assert claimed == Counter(ids)
    assert all(job.attempts == 1 for tenant in range(3) for job in store.list(f"tenant-{tenant}"))


def test_claims_at_once_keep_to_the_tenants_limit(store: Store, new_job: NewJobs) -> None:
    limits = TenantLimits(max_concurrent=2)
    for n in range(12):
        store.submit(new_job(tenant=f"tenant-{n % 2}"), limits)
    with ThreadPoolExecutor(6) as threads:
        claims = [claim for claim in threads.map(lambda n: store.claim(["toy"], f"{n}"), range(6)) if claim]
    assert Counter(claim.job.tenant for claim in claims) == {"tenant-0": 2, "tenant-1": 2}
    first = claims[0]
    store.finish(first.job.id, first.fence, Status.COMPLETED, result={}, charge_usd=Decimal(0))
    after = store.claim(["toy"], "worker")
    assert after is not None
    assert after.job.tenant == first.job.tenant


def test_a_higher_limit_counts_at_once(store: Store, new_job: NewJobs) -> None:
    for _ in range(3):
        store.submit(new_job(), TenantLimits(max_concurrent=1))
    assert store.claim(["toy"], "worker") is not None
    assert store.claim(["toy"], "worker") is None
    store.upsert_tenant("ann", TenantLimits(max_concurrent=2))
    assert store.claim(["toy"], "worker") is not None
    assert store.claim(["toy"], "worker") is None


def test_cancel_against_claim_has_one_winner(store: Store, new_job: NewJobs) -> None:
    ids = [store.submit(new_job(), LIMITS)[0].id for _ in range(20)]
    with ThreadPoolExecutor(4) as threads:
        cancels = [threads.submit(store.cancel, job_id, "ann") for job_id in ids]
        claimed = set(threads.submit(_claim_all, store, "worker").result())
        cancelled = {job.id for job in (done.result() for done in cancels) if job.status is Status.CANCELLED}
    claimed |= set(_claim_all(store, "worker"))
    assert claimed | cancelled == set(ids)
    assert claimed & cancelled == set()

"""Whether a batch job is to make way."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from videosvc_queue.job import Claim, NewJob, Status
from videosvc_queue.store import Store
from videosvc_queue.tenants import TenantLimits
from videosvc_queue.tiers import Tier

NewJobs = Callable[..., NewJob]
LIMITS = TenantLimits(max_concurrent=10_000, max_queued=10_000, per_minute=10_000)
ROUTES = ["toy", "wan"]


def start_batch(store: Store, new_job: NewJobs, worker: str, **fields: object) -> Claim:
    """A batch job that this worker runs."""
    store.submit(new_job(tier=Tier.BATCH, **fields), LIMITS)
    store.register_worker(worker, ROUTES, "cpu")
    claim = store.claim(ROUTES, worker)
    assert claim is not None
    return claim


def test_batch_makes_way_for_interactive_alone(store: Store, new_job: NewJobs) -> None:
    batch = start_batch(store, new_job, "worker-1")
    store.submit(new_job(tier=Tier.BATCH), LIMITS)
    assert not store.must_make_way(batch.job, ROUTES)
    store.submit(new_job(route="elsewhere"), LIMITS)
    assert not store.must_make_way(batch.job, ROUTES)
    store.submit(new_job(route="wan"), LIMITS)  # another model, but nobody else has it
    assert store.must_make_way(batch.job, ROUTES)


def test_an_idle_worker_takes_it_first(store: Store, new_job: NewJobs) -> None:
    batch = start_batch(store, new_job, "worker-1")
    store.register_worker("worker-2", ["wan"], "cpu")
    store.submit(new_job(), LIMITS)
    assert store.must_make_way(batch.job, ROUTES)  # it takes another route
    store.register_worker("worker-3", ["toy"], "cpu")
    assert not store.must_make_way(batch.job, ROUTES)
    store.submit(new_job(), LIMITS)
    assert store.must_make_way(batch.job, ROUTES)  # one for worker-3, one for this one
    store.forget_worker("worker-3")
    taken = store.claim(["toy"], "worker-4")
    assert taken is not None
    assert store.must_make_way(batch.job, ROUTES)


def test_a_job_that_its_tenant_may_not_start_waits(store: Store, new_job: NewJobs) -> None:
    batch = start_batch(store, new_job, "worker-1")
    one = TenantLimits(max_concurrent=1)
    store.submit(new_job(tenant="bob"), one)
    running = store.claim(ROUTES, "worker-2")
    assert running is not None
    store.submit(new_job(tenant="bob"), one)
    assert not store.must_make_way(batch.job, ROUTES)
    store.finish(running.job.id, running.fence, Status.COMPLETED, result={}, charge_usd=Decimal(0))
    assert store.must_make_way(batch.job, ROUTES)


def test_a_tenants_batch_makes_way_for_its_own(store: Store, new_job: NewJobs) -> None:
    batch = start_batch(store, new_job, "worker-1", tenant="bob")
    store.submit(new_job(tenant="bob"), TenantLimits(max_concurrent=1))
    assert store.must_make_way(batch.job, ROUTES)
    store.give_back(batch.job.id, batch.fence)
    claim = store.claim(ROUTES, "worker-1")
    assert claim is not None and claim.job.tier is Tier.INTERACTIVE


def test_a_tenant_with_many_jobs_parks_no_more_than_it_may_start(store: Store, new_job: NewJobs) -> None:
    held = [start_batch(store, new_job, f"worker-{number}") for number in range(3)]
    four = TenantLimits(max_concurrent=4)
    for _ in range(3):
        store.submit(new_job(tenant="bob"), four)
        assert store.claim(ROUTES, "elsewhere") is not None
    for _ in range(20):
        store.submit(new_job(tenant="bob"), four)
    assert [store.must_make_way(claim.job, ROUTES) for claim in held] == [False, False, True]


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.integers(1, 4), idle=st.integers(0, 2), interactive=st.integers(0, 6))
def test_as_many_make_way_as_are_wanted(
    store: Store, new_job: NewJobs, batch: int, idle: int, interactive: int
) -> None:
    """However the workers ask: all before one gives back, or each after the one before has taken its job."""
    held = [start_batch(store, new_job, f"worker-{number}") for number in range(batch)]
    for number in range(idle):
        store.register_worker(f"idle-{number}", ROUTES, "cpu")
    for _ in range(interactive):
        store.submit(new_job(), LIMITS)
    wanted = max(0, min(batch, interactive - idle))
    assert sum(store.must_make_way(claim.job, ROUTES) for claim in held) == wanted
    for claim in held:
        if store.must_make_way(claim.job, ROUTES):
            assert store.give_back(claim.job.id, claim.fence)
            assert claim.job.worker is not None
            taken = store.claim(ROUTES, claim.job.worker)
            assert taken is not None and taken.job.tier is Tier.INTERACTIVE
    jobs = [job for tenant in ("ann",) for job in store.list(tenant, limit=1000)]
    assert sum(job.status is Status.IN_PROGRESS and job.tier is Tier.INTERACTIVE for job in jobs) == wanted
    for job in jobs:
        store.cancel(job.id, job.tenant)
        store.finish(job.id, job.fence, Status.CANCELLED, result={}, charge_usd=Decimal(0))
        store.delete(job.id, job.tenant)
    for worker in store.live_workers():
        store.forget_worker(worker.name)

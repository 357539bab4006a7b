from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import NullPool, create_engine, select

from videosvc_queue.job import Job, NewJob, Status
from videosvc_queue.store import Store
from videosvc_queue.tables import flows
from videosvc_queue.tenants import TenantLimits
from videosvc_queue.tiers import Tier

NewJobs = Callable[..., NewJob]
LIMITS = TenantLimits(max_concurrent=10_000, max_queued=10_000, per_minute=10_000)


def _run_next(store: Store, *routes: str) -> Job:
    claim = store.claim(routes or ["toy"], "worker-1")
    assert claim is not None
    store.finish(claim.job.id, claim.fence, Status.COMPLETED, result={}, charge_usd=Decimal(0))
    return claim.job


def _who_is_next(store: Store, count: int) -> Counter[str]:
    return Counter(_run_next(store).tenant for _ in range(count))


def test_many_jobs_do_not_starve_anothers_one(store: Store, new_job: NewJobs) -> None:
    for _ in range(100):
        store.submit(new_job(tenant="ann"), LIMITS)
    _run_next(store)
    one, _ = store.submit(new_job(tenant="bob"), LIMITS)
    assert store.ahead(one).jobs <= 1
    assert "bob" in _who_is_next(store, 2)


def test_tenants_take_turns_whoever_came_first(store: Store, new_job: NewJobs) -> None:
    for _ in range(40):
        store.submit(new_job(tenant="ann"), LIMITS)
    for _ in range(10):
        store.submit(new_job(tenant="bob"), LIMITS)
    assert _who_is_next(store, 20) == {"ann": 10, "bob": 10}


def test_shares_are_of_compute_not_of_jobs(store: Store, new_job: NewJobs) -> None:
    for _ in range(30):
        store.submit(new_job(tenant="short", predicted_s=5.0), LIMITS)
    for _ in range(10):
        store.submit(new_job(tenant="long", predicted_s=20.0), LIMITS)
    assert _who_is_next(store, 25) == {"short": 20, "long": 5}


def test_weight_is_the_share(store: Store, new_job: NewJobs) -> None:
    heavy = TenantLimits(weight=3.0)
    for _ in range(20):
        store.submit(new_job(tenant="heavy"), heavy)
        store.submit(new_job(tenant="light"), LIMITS)
    assert _who_is_next(store, 20) == {"heavy": 15, "light": 5}


def test_idle_time_is_not_saved_up(store: Store, new_job: NewJobs) -> None:
    for _ in range(30):
        store.submit(new_job(tenant="ann"), LIMITS)
    _who_is_next(store, 15)
    for _ in range(10):
        store.submit(new_job(tenant="bob"), LIMITS)
    assert 4 <= _who_is_next(store, 10)["bob"] <= 6


def test_interactive_jobs_go_before_batch_jobs(store: Store, new_job: NewJobs) -> None:
    for _ in range(3):
        store.submit(new_job(tenant="ann", tier=Tier.BATCH), LIMITS)
    for _ in range(3):
        store.submit(new_job(tenant="bob", predicted_s=1000.0), LIMITS)
    assert [_run_next(store).tier for _ in range(6)] == [Tier.INTERACTIVE] * 3 + [Tier.BATCH] * 3


def test_a_route_that_stood_idle_does_not_have_the_worker_to_itself(store: Store, new_job: NewJobs) -> None:
    for _ in range(40):
        store.submit(new_job(tenant="ann", route="toy"), LIMITS)
    for _ in range(20):
        _run_next(store, "toy", "wan")
    for _ in range(20):
        store.submit(new_job(tenant="bob", route="wan"), LIMITS)
    taken = Counter(_run_next(store, "toy", "wan").route for _ in range(10))
    assert 4 <= taken["wan"] <= 6


def test_routes_with_workers_of_their_own_are_fair_each_by_itself(store: Store, new_job: NewJobs) -> None:
    for _ in range(30):
        store.submit(new_job(tenant="ann", route="toy", predicted_s=1000.0), LIMITS)
        store.submit(new_job(tenant="ann", route="wan", predicted_s=1.0), LIMITS)
    for _ in range(20):
        _run_next(store, "toy")
    one, _ = store.submit(new_job(tenant="bob", route="wan"), LIMITS)
    assert store.ahead(one).jobs <= 1


def test_cancelled_jobs_do_not_use_up_a_share(store: Store, new_job: NewJobs) -> None:
    ids = [store.submit(new_job(tenant="ann"), LIMITS)[0].id for _ in range(20)]
    for job_id in ids:
        store.cancel(job_id, "ann")
    for _ in range(5):
        store.submit(new_job(tenant="bob"), LIMITS)
        store.submit(new_job(tenant="ann"), LIMITS)
    assert _who_is_next(store, 4) == {"ann": 2, "bob": 2}


def test_a_tenant_at_its_limit_is_passed_over(store: Store, new_job: NewJobs) -> None:
    for _ in range(3):
        store.submit(new_job(tenant="ann"), TenantLimits(max_concurrent=1))
    for _ in range(3):
        store.submit(new_job(tenant="bob", predicted_s=1000.0), LIMITS)
    claims = [store.claim(["toy"], "worker-1") for _ in range(5)]
    assert [claim.job.tenant for claim in claims if claim] == ["ann", "bob", "bob", "bob"]


SUBMITTED = st.tuples(
    st.sampled_from(["ann", "bob", "cleo"]), st.sampled_from(Tier), st.floats(0.1, 1e4), st.booleans()
)


@given(news=st.lists(SUBMITTED, min_size=1, max_size=12))
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_jobs_run_in_the_order_that_ahead_foretells(
    store: Store, new_job: NewJobs, news: list[tuple[str, Tier, float, bool]]
) -> None:
    waiting: list[Job] = []
    for tenant, tier, predicted_s, run_one in news:
        waiting.append(store.submit(new_job(tenant=tenant, tier=tier, predicted_s=predicted_s), LIMITS)[0])
        if run_one:
            ran = _run_next(store)
            waiting = [job for job in waiting if job.id != ran.id]
    foretold = sorted(waiting, key=lambda job: store.ahead(job).jobs)
    assert [store.ahead(job).jobs for job in foretold] == list(range(len(foretold)))
    assert [_run_next(store).id for _ in foretold] == [job.id for job in foretold]


@pytest.mark.parametrize("give_up", ["cancel", "delete"])
def test_the_share_of_cancelled_jobs_comes_back_whoever_submits_meanwhile(
    store: Store, database_url: str, new_job: NewJobs, give_up: str
) -> None:
    def come_and_go(_: int) -> None:
        for _ in range(4):
            job, _ = store.submit(new_job(), LIMITS)
            getattr(store, give_up)(job.id, job.tenant)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(come_and_go, range(4)))
    engine = create_engine(database_url, poolclass=NullPool)
    with engine.connect() as sql:
        assert sql.scalars(select(flows.c.finish_tag)).all() == [0.0]

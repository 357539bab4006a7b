from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from videosvc_queue.job import Ahead, NewJob
from videosvc_queue.store import Store
from videosvc_queue.tenants import TenantLimits
from videosvc_queue.tiers import Tier

NewJobs = Callable[..., NewJob]
LIMITS = TenantLimits(max_concurrent=10_000, max_queued=10_000, per_minute=10_000)
ROUTES = ("toy", "wan", "far", "nobody's")


@pytest.mark.parametrize("seed", range(3))
def test_all_at_once_is_what_one_by_one_is(store: Store, new_job: NewJobs, seed: int) -> None:
    chance = Random(seed)
    for name in ("one", "two", "three"):
        store.register_worker(name, chance.sample(ROUTES[:-1], chance.randint(1, 2)), "cpu")
    jobs = [
        store.submit(
            new_job(
                tenant=chance.choice(("ann", "bob", "cleo")),
                route=chance.choice(ROUTES),
                tier=chance.choice(list(Tier)),
                predicted_s=float(chance.randint(1, 40)),
            ),
            LIMITS,
        )[0]
        for _ in range(60)
    ]
    for progress in (0, 25, 90):
        claim = store.claim(ROUTES[:-1], "one")
        assert claim is not None
        store.beat(claim.job.id, claim.fence, progress=progress)
        jobs = [job for job in jobs if job.id != claim.job.id]
    cancelled = jobs.pop()
    store.cancel(cancelled.id, cancelled.tenant)
    standing = store.standing()
    for job in jobs:
        ahead, alone = standing.ahead(job), store.ahead(job)
        assert (ahead.jobs, ahead.workers) == (alone.jobs, alone.workers)
        assert ahead.compute_s == pytest.approx(alone.compute_s)


def test_a_job_that_came_later_has_its_place(store: Store, new_job: NewJobs) -> None:
    store.submit(new_job(predicted_s=3.0), LIMITS)
    standing = store.standing()
    later, _ = store.submit(new_job(predicted_s=5.0), LIMITS)
    assert standing.ahead(later) == Ahead(jobs=1, compute_s=3.0, workers=0)


def test_nothing_stands_before_the_first(store: Store, new_job: NewJobs) -> None:
    standing = store.standing()
    first, _ = store.submit(new_job(), LIMITS)
    assert standing.ahead(first) == Ahead(jobs=0, compute_s=0.0, workers=0)

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from clock import Clock
from ledger_rows import ledger_rows
from videosvc_queue.errors import QuotaExceeded
from videosvc_queue.job import NewJob, Status
from videosvc_queue.ledger import UsageRow
from videosvc_queue.store import Store
from videosvc_queue.tenants import TenantLimits
from videosvc_queue.tiers import Tier

NewJobs = Callable[..., NewJob]
LIMITS = TenantLimits(max_concurrent=100)


def _run(store: Store, new: NewJob, charge_usd: str, compute_s: float = 0.0, limits: TenantLimits = LIMITS) -> None:
    store.submit(new, limits)
    claim = store.claim([new.route], "worker-1")
    assert claim is not None
    assert claim.job.id == new.id
    assert store.finish(
        new.id, claim.fence, Status.COMPLETED, result={}, charge_usd=Decimal(charge_usd), compute_s=compute_s
    )


def test_a_job_is_held_then_charged_and_released(store: Store, database_url: str, new_job: NewJobs) -> None:
    new = new_job(hold_usd=Decimal("0.030000001"))
    store.submit(new, LIMITS)
    assert ledger_rows(database_url)[new.id] == {"hold": Decimal("0.030000001")}
    assert store.spent_today("ann") == Decimal("0.030000001")
    claim = store.claim(["toy"], "worker-1")
    assert claim is not None
    store.finish(new.id, claim.fence, Status.COMPLETED, result={}, charge_usd=Decimal("0.020000002"))
    assert ledger_rows(database_url)[new.id] == {
        "hold": Decimal("0.030000001"), "charge": Decimal("0.020000002"), "release": Decimal("0.030000001"),
    }
    assert store.spent_today("ann") == Decimal("0.020000002")


def test_never_charged_more_than_held(store: Store, new_job: NewJobs) -> None:
    _run(store, new_job(hold_usd=Decimal("0.03")), charge_usd="0.05")
    assert store.spent_today("ann") == Decimal("0.03")


@pytest.mark.parametrize("way", ["cancelled in the queue", "worker lost"])
def test_what_never_came_to_an_answer_costs_nothing(
    store: Store, database_url: str, new_job: NewJobs, way: str
) -> None:
    new = new_job()
    store.submit(new, LIMITS)
    if way == "cancelled in the queue":
        store.cancel(new.id, "ann")
    else:
        for _ in range(3):
            claim = store.claim(["toy"], "worker-1")
            assert claim is not None
            store.requeue(new.id, claim.fence)
        lost = store.get(new.id)
        assert lost is not None
        assert (lost.status, lost.error_code) == (Status.FAILED, "worker_lost")
    assert store.spent_today("ann") == 0
    rows = ledger_rows(database_url)[new.id]
    assert rows == {"hold": new.hold_usd, "charge": Decimal(0), "release": new.hold_usd}


def test_so_much_a_day(database_url: str, clock: Clock, new_job: NewJobs) -> None:
    limits = TenantLimits(usd_per_day=Decimal("0.10"))
    with Store(database_url, clock) as store:
        _run(store, new_job(hold_usd=Decimal("0.06")), "0.05", limits=limits)
        store.submit(new_job(hold_usd=Decimal("0.03")), limits)
        with pytest.raises(QuotaExceeded, match=r"0\.03 USD are more than the 0\.02 left of 0\.1 USD a day") as refused:
            store.submit(new_job(hold_usd=Decimal("0.03")), limits)
        assert (refused.value.what, refused.value.retry_after_s) == ("usd_per_day", 16 * 3600)
        store.submit(new_job(hold_usd=Decimal("0.02")), limits)
        clock.now += 16 * 3600  # midnight: what is held counts for the new day, what was charged does not
        assert store.spent_today("ann") == Decimal("0.05")
        store.submit(new_job(hold_usd=Decimal("0.05")), limits)


def test_usage_adds_up_by_day_route_and_tier(database_url: str, clock: Clock, new_job: NewJobs) -> None:
    with Store(database_url, clock) as store:
        start = clock.now
        _run(store, new_job(), "0.01", compute_s=2.0)
        _run(store, new_job(), "0.02", compute_s=3.0)
        _run(store, new_job(route="wan", tier=Tier.BATCH), "0.03", compute_s=4.0)
        _run(store, new_job(tenant="bob"), "0.03", compute_s=5.0)
        clock.now += 24 * 3600
        _run(store, new_job(), "0.005", compute_s=6.0)
        store.submit(new_job(), LIMITS)  # not at its end: no usage yet
        first_day = [
            UsageRow("2027-01-15", "toy", Tier.INTERACTIVE, 2, 5.0, Decimal("0.03")),
            UsageRow("2027-01-15", "wan", Tier.BATCH, 1, 4.0, Decimal("0.03")),
        ]
        second_day = [UsageRow("2027-01-16", "toy", Tier.INTERACTIVE, 1, 6.0, Decimal("0.005"))]
        assert store.usage("ann", start, clock.now + 1) == first_day + second_day
        assert store.usage("ann", start, clock.now) == first_day
        assert store.usage("ann", clock.now, clock.now + 1) == second_day
        assert store.usage("nobody", 0, 9e9) == []

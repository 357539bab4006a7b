from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from videosvc_queue.balances import Balance
from videosvc_queue.errors import QuotaExceeded
from videosvc_queue.job import NewJob, Status
from videosvc_queue.store import Store
from videosvc_queue.tenants import TenantLimits

NewJobs = Callable[..., NewJob]
LIMITS = TenantLimits(max_concurrent=100)


@pytest.fixture
def ann(store: Store) -> Store:
    """Where a tenant `ann` has paid 0.10 USD in advance."""
    store.create_key("ann", "")
    assert store.credit("ann", Decimal("0.10"), "invoice 1")
    return store


def test_a_price_must_fit_into_what_open_jobs_leave(ann: Store, new_job: NewJobs) -> None:
    first = new_job(hold_usd=Decimal("0.06"))
    ann.submit(first, LIMITS)
    assert ann.balance("ann") == Balance(Decimal("0.10"), held_usd=Decimal("0.06"))
    dear = new_job(hold_usd=Decimal("0.05"))
    told = r"0\.05 USD are more than the 0\.04 that open jobs leave of the balance of 0\.1 USD"
    with pytest.raises(QuotaExceeded, match=told) as refused:
        ann.submit(dear, LIMITS)
    assert refused.value.what == "balance" and refused.value.retry_after_s > 0
    assert ann.get(dear.id) is None
    claim = ann.claim(["toy"], "worker-1")
    assert claim is not None
    ann.finish(first.id, claim.fence, Status.COMPLETED, result={}, charge_usd=Decimal("0.05"))
    assert ann.balance("ann") == Balance(Decimal("0.05"), held_usd=Decimal(0))
    ann.submit(dear, LIMITS)
    with pytest.raises(QuotaExceeded, match="the 0 that open jobs leave"):
        ann.submit(new_job(hold_usd=Decimal("0.000000001")), LIMITS)
    ann.cancel(dear.id, "ann")
    assert ann.balance("ann") == Balance(Decimal("0.05"), held_usd=Decimal(0))


def test_a_payment_counts_once(ann: Store) -> None:
    assert not ann.credit("ann", Decimal("0.1"), "invoice 1")
    with pytest.raises(ValueError, match=r"reference: 'invoice 1' was booked before, with 0\.1 USD"):
        ann.credit("ann", Decimal("0.2"), "invoice 1")
    assert ann.credit("ann", Decimal("0.1"), "invoice 2")
    ann.create_key("bob", "")
    assert ann.credit("bob", Decimal(1), "invoice 1"), "references are a tenant's own"
    paid = {name: ann.balance(name) for name in ("ann", "bob")}
    assert paid == {"ann": Balance(Decimal("0.2"), Decimal(0)), "bob": Balance(Decimal(1), Decimal(0))}


def test_the_same_payment_booked_twice_at_once_counts_once(ann: Store, database_url: str) -> None:
    with Store(database_url) as other, ThreadPoolExecutor(2) as threads:
        barrier = threading.Barrier(2)

        def book(store: Store) -> bool:
            barrier.wait()
            return store.credit("ann", Decimal(3), "invoice 2")

        assert sorted(threads.map(book, (ann, other))) == [False, True]
    assert ann.balance("ann") == Balance(Decimal("3.1"), Decimal(0))


@pytest.mark.parametrize("usd", ["0", "-1", "NaN", "Infinity", "1000000000", "0.0000000001"])
def test_amounts_that_are_none(ann: Store, usd: str) -> None:
    with pytest.raises(ValueError, match=r"usd: .* must be more than 0, less than 1000000000, with at most 9 decimals"):
        ann.credit("ann", Decimal(usd), "invoice 2")


def test_references_and_tenants_that_are_none(ann: Store) -> None:
    for reference in ("", " ", "x" * 65):
        with pytest.raises(ValueError, match="reference: 1 to 64 characters"):
            ann.credit("ann", Decimal(1), reference)
    with pytest.raises(LookupError, match="nobody"):
        ann.credit("nobody", Decimal(1), "invoice 1")
    assert ann.balance("nobody") is None


def test_who_pays_afterwards_has_no_balance(store: Store, new_job: NewJobs) -> None:
    store.submit(new_job(hold_usd=Decimal(1000)), LIMITS)
    assert store.balance("ann") is None


def test_prepaid_counts_from_the_next_job_on_and_may_end(store: Store, new_job: NewJobs) -> None:
    store.create_key("ann", "")
    store.upsert_tenant("ann", TenantLimits(prepaid=True))
    with pytest.raises(QuotaExceeded, match="balance of 0 USD"):
        store.submit(new_job(), LIMITS)  # whatever the caller last heard of its limits
    store.upsert_tenant("ann", TenantLimits())
    store.submit(new_job(), LIMITS)


def test_creates_at_once_cannot_overdraw(ann: Store, database_url: str, new_job: NewJobs) -> None:
    tries = [new_job(hold_usd=Decimal("0.03")) for _ in range(12)]
    with Store(database_url) as other, ThreadPoolExecutor(4) as threads:
        barrier = threading.Barrier(4)

        def create(number: int) -> int:
            barrier.wait()
            store, accepted = (ann, other)[number % 2], 0
            for job in tries[number::4]:
                try:
                    store.submit(job, LIMITS)
                except QuotaExceeded as refused:
                    assert refused.what == "balance"
                else:
                    accepted += 1
            return accepted

        assert sum(threads.map(create, range(4))) == 3
    assert ann.balance("ann") == Balance(Decimal("0.10"), held_usd=Decimal("0.09"))

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest
from sqlalchemy import NullPool, create_engine, func, select

from clock import Clock
from ledger_rows import ledger_rows
from videosvc_queue import retention
from videosvc_queue.job import Job, NewJob, Status
from videosvc_queue.store import Store
from videosvc_queue.tables import idempotency, jobs, metadata, outbox
from videosvc_queue.tenants import TenantLimits
from videosvc_queue.tiers import Tier

DAY_S = 86400.0
HISTORY_S = 30 * DAY_S
SECRET = "xyzzy"  # in whatever a tenant writes to its job


@pytest.fixture
def store(database_url: str, clock: Clock) -> Iterator[Store]:
    with Store(database_url, clock) as opened:
        yield opened


@pytest.fixture
def submit(store: Store, new_job: Callable[..., NewJob]) -> Callable[..., Job]:
    def submit(**fields: object) -> Job:
        words = {
            "payload": {"prompt": SECRET},
            "metadata": {"order": SECRET},
            "webhook_url": f"https://{SECRET}.example",
        }
        return store.submit(new_job(**words, **fields), TenantLimits())[0]

    return submit


@pytest.fixture
def run(store: Store, submit: Callable[..., Job]) -> Callable[..., Job]:
    """A job that ends completed, its artifacts to go at once."""

    def run(**fields: object) -> Job:
        job = submit(**fields)
        claim = store.claim([job.route], "worker-1")
        assert claim is not None and claim.job.id == job.id
        store.finish(
            job.id, claim.fence, Status.COMPLETED, result={}, charge_usd=Decimal("0.01"), compute_s=2.0, expires_at=1.0
        )
        return job

    return run


def rows(url: str, table: str) -> int:
    with create_engine(url, poolclass=NullPool).connect() as sql:
        return sql.scalars(select(func.count()).select_from(metadata.tables[table])).one()


def text(url: str) -> str:
    """All that is written in the tables where a tenant's words may be."""
    with create_engine(url, poolclass=NullPool).connect() as sql:
        return repr([sql.execute(select(table)).all() for table in (jobs, idempotency, outbox)])


def test_a_jobs_row_goes_in_the_end_and_its_charge_stays(
    store: Store, clock: Clock, run: Callable[..., Job], submit: Callable[..., Job], database_url: str
) -> None:
    old = [run(), run(tier=Tier.BATCH, route="wan")]
    since = clock.now
    for job in old:
        store.mark_removed(job.id, {})
    waiting, recent = submit(), None
    usage, spent = store.usage("ann", since - 1, since + 1), store.spent_today("ann")
    clock.now += HISTORY_S
    recent = submit(tenant="bob")
    store.tidy(HISTORY_S + 1)
    assert store.get(old[0].id) is not None
    store.tidy(HISTORY_S)
    assert [store.get(job.id) for job in old] == [None, None]
    assert store.get(waiting.id) is not None and store.get(recent.id) is not None
    assert {job.id: kinds for job, kinds in ((job, ledger_rows(database_url)[job.id]) for job in old)} == {
        job.id: {"charge": Decimal("0.01")} for job in old
    }
    assert store.usage("ann", since - 1, since + 1) == usage and len(usage) == 2
    clock.now = since
    assert store.spent_today("ann") == spent
    assert rows(database_url, "webhooks") == 0


def test_what_still_has_its_files_is_not_forgotten(store: Store, clock: Clock, run: Callable[..., Job]) -> None:
    job = run()
    clock.now += 2 * HISTORY_S
    store.tidy(HISTORY_S)
    assert store.get(job.id) is not None, "its files would be nobody's"


def test_many_go_by_and_by(
    store: Store, clock: Clock, run: Callable[..., Job], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    for _ in range(5):
        store.mark_removed(run().id, {})
    clock.now += HISTORY_S
    store.tidy(HISTORY_S)
    assert (rows(database_url, "jobs"), rows(database_url, "ledger")) == (0, 5)


def test_a_balance_outlives_its_jobs(store: Store, clock: Clock, run: Callable[..., Job]) -> None:
    store.upsert_tenant("ann", TenantLimits())
    store.credit("ann", Decimal("1"), "invoice 1")
    store.mark_removed(run().id, {})
    clock.now += HISTORY_S
    store.tidy(HISTORY_S)
    balance = store.balance("ann")
    assert balance is not None and balance.free_usd == Decimal("0.99")


@pytest.mark.parametrize("when", ["waiting", "running", "done"])
def test_a_deleted_jobs_words_are_gone(
    store: Store, clock: Clock, run: Callable[..., Job], submit: Callable[..., Job], database_url: str, when: str
) -> None:
    job = run(idempotency_key="order-17", body_hash="0") if when == "done" else submit()
    claim = store.claim(["toy"], "worker-1") if when == "running" else None
    store.delete(job.id, "ann")
    if claim is not None:
        assert SECRET in text(database_url), "its worker needs them"
        store.finish(job.id, claim.fence, Status.CANCELLED, result=None, charge_usd=Decimal("0.005"))
        (gone,) = store.expired_artifacts(clock.now, 10)
        store.mark_removed(gone.id, {})
    assert SECRET not in text(database_url)
    assert "release" in ledger_rows(database_url)[job.id]


def test_an_expired_jobs_words_are_gone_and_the_rest_is_there(
    store: Store, run: Callable[..., Job], database_url: str
) -> None:
    job = run()
    store.mark_removed(job.id, {"seed": 7})
    assert SECRET not in text(database_url)
    expired = store.get(job.id)
    assert expired is not None and (expired.payload, expired.metadata) == ({"seed": 7}, {})
    assert (expired.status, expired.removed_at is not None) == (Status.COMPLETED, True)

"""Whatever workers, tenants and the reconciler do, in whatever order, and whenever they die; fences old and new."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event

from ledger_rows import ledger_rows
from videosvc_queue.errors import QuotaExceeded
from videosvc_queue.job import Beat, NewJob, Status
from videosvc_queue.store import Store
from videosvc_queue.tenants import TenantLimits

LIMITS = TenantLimits(max_concurrent=1000, max_queued=1000, per_minute=100_000, prepaid=True)
ENDS = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)


class Crash(Exception):
    pass


@contextmanager
def crash_at(statement: int | None) -> Iterator[None]:
    """The process dies before its statement of this number, from 0 on, commits counted. None: it lives."""
    left = itertools.count(-1 if statement is None else statement, -1)

    def count(*_: Any) -> None:
        if next(left) == 0:
            raise Crash

    for name in ("before_cursor_execute", "commit"):
        event.listen(Engine, name, count)
    try:
        yield
    except Crash:
        pass
    finally:
        for name in ("before_cursor_execute", "commit"):
            event.remove(Engine, name, count)


@dataclass
class Expected:
    """What a job must be like by all that was done to it."""

    status: Status = Status.QUEUED
    fence: int = 0
    cancel_requested: bool = False
    losses: int = 0
    charged_usd: Decimal = Decimal(0)


class History:
    """What is expected changes after the store has answered: a call that died on the way changes nothing."""

    def __init__(self, store: Store, new_job: Callable[..., NewJob], name: str) -> None:
        """`name`: of its route and tenant, which are no other example's."""
        self.store, self.new_job, self.name = store, new_job, name
        self.jobs: dict[str, Expected] = {}
        self.credits: dict[str, Decimal] = {}
        self.price_usd = new_job().hold_usd
        store.upsert_tenant(name, LIMITS)

    @property
    def paid_usd(self) -> Decimal:
        return sum(self.credits.values(), Decimal(0)) - sum(job.charged_usd for job in self.jobs.values())

    @property
    def held_usd(self) -> Decimal:
        return self.price_usd * sum(not job.status.terminal for job in self.jobs.values())

    def submit(self) -> None:
        affordable = self.price_usd <= self.paid_usd - self.held_usd
        try:
            job, _ = self.store.submit(self.new_job(route=self.name, tenant=self.name), LIMITS)
        except QuotaExceeded:
            assert not affordable
            return
        assert affordable
        self.jobs[job.id] = Expected()

    def credit(self, number: int, cents: int) -> None:
        reference, amount_usd = f"invoice {number}", Decimal(1 + cents) / 100
        booked = self.credits.get(reference)
        try:
            assert self.store.credit(self.name, amount_usd, reference) is (booked is None)
        except ValueError:
            assert booked not in (None, amount_usd)
            return
        self.credits[reference] = amount_usd

    def claim(self) -> None:
        claim = self.store.claim([self.name], "worker")
        if claim is None:
            assert all(job.status is not Status.QUEUED for job in self.jobs.values())
            return
        job = self.jobs[claim.job.id]
        assert job.status is Status.QUEUED
        assert claim.fence > job.fence
        job.status, job.fence = Status.IN_PROGRESS, claim.fence

    def on(self, action: str, job_id: str, older: int, cents: int) -> None:
        """Under the job's fence less `older`: only 0 is its worker's."""
        job = self.jobs[job_id]
        fence = job.fence - older
        held = job.status is Status.IN_PROGRESS and older == 0
        if action == "beat":
            expected = (Beat.CANCEL if job.cancel_requested else Beat.CONTINUE) if held else Beat.LOST
            with self.store.watch(job_id, fence) as watch:
                assert watch.check() is expected
            assert self.store.beat(job_id, fence, progress=cents) is expected
        elif action == "give_back":
            then = Status.CANCELLED if job.cancel_requested else Status.QUEUED
            assert self.store.give_back(job_id, fence) is (then if held else None)
            if held:
                job.status = then
        elif action == "requeue":
            left = self.store.requeue(job_id, fence)
            assert (left is not None) is held
            if left is not None:
                job.losses += 1
                kept = Status.FAILED if job.losses == 3 else Status.QUEUED
                assert left is (Status.CANCELLED if job.cancel_requested else kept)
                job.status = left
        elif action == "finish":
            end, charge_usd = ENDS[cents % 3], Decimal(cents) / 100
            assert self.store.finish(job_id, fence, end, result={}, charge_usd=charge_usd) is held
            if held:
                job.status, job.charged_usd = end, min(charge_usd, self.price_usd)
        elif action == "cancel":
            then = Status.CANCELLED if job.status is Status.QUEUED else job.status
            assert self.store.cancel(job_id, self.name).status is then
            job.status = then
            job.cancel_requested |= then is Status.IN_PROGRESS

    def check_balance(self) -> None:
        balance = self.store.balance(self.name)
        assert balance is not None
        assert (balance.usd, balance.held_usd) == (self.paid_usd, self.held_usd)
        assert balance.free_usd >= 0

    def check(self, database_url: str) -> None:
        entries = ledger_rows(database_url)
        for job_id, expected in self.jobs.items():
            job = self.store.get(job_id)
            assert job is not None
            assert job.status is expected.status
            assert (job.completed_at is not None) is expected.status.terminal
            end = {"charge": expected.charged_usd, "release": job.hold_usd} if expected.status.terminal else {}
            assert entries[job_id] == {"hold": job.hold_usd} | end
        usage = self.store.usage(self.name, 0.0, 9e9)
        assert sum(row.charged_usd for row in usage) == sum(job.charged_usd for job in self.jobs.values())
        assert sum(row.jobs for row in usage) == sum(job.status.terminal for job in self.jobs.values())


NAMES = ("submit", "submit", "claim", "claim", "credit", "beat", "give_back", "requeue", "finish", "finish", "cancel")
ACTIONS = st.tuples(
    st.sampled_from(NAMES),
    st.integers(0, 2),  # which job or invoice
    st.sampled_from([0, 0, 0, 1, 2, -1]),  # how much older the fence
    st.integers(0, 5),  # cents, percent or end
    st.one_of(st.none(), st.none(), st.integers(0, 12)),  # at which statement the process dies
)


@given(actions=st.lists(ACTIONS, min_size=5, max_size=40))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_every_history_adds_up(
    store: Store,
    database_url: str,
    new_job: Callable[..., NewJob],
    actions: list[tuple[str, int, int, int, int | None]],
) -> None:
    history = History(store, new_job, new_job().id)
    history.credit(0, 5)
    history.submit()
    for name, which, older, cents, dies_at in actions:
        with crash_at(dies_at):
            if name == "submit":
                history.submit()
            elif name == "credit":
                history.credit(which, cents)
            elif name == "claim":
                history.claim()
            else:
                history.on(name, list(history.jobs)[which % len(history.jobs)], older, cents)
        history.check_balance()
    history.check(database_url)

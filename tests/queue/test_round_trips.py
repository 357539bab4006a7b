"""How often a job asks its database: each time is a wait for another process to get a core."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest
from sqlalchemy import Engine, event

from eventually import eventually
from videosvc_queue.context import Context
from videosvc_queue.events import EventBus
from videosvc_queue.job import Job, NewJob, Status
from videosvc_queue.nudges import Nudges
from videosvc_queue.runner import Handler, Outcome, run_one
from videosvc_queue.store import Store
from videosvc_queue.tenants import TenantLimits

STEPS = 1000


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """All of SQLAlchemy's, without BEGIN and COMMIT."""
    seen: list[str] = []

    def note(sql: object, cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith(("PRAGMA", "BEGIN")):
            seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield seen
    event.remove(Engine, "before_cursor_execute", note)


@pytest.fixture
def nudges(redis_url: str) -> Iterator[Nudges]:
    with Nudges(redis_url) as nudges:
        eventually(lambda: not nudges.deaf)
        yield nudges


def test_a_jobs_life_takes_few_statements_however_many_its_steps(
    store: Store, bus: EventBus, nudges: Nudges, new_job: Callable[..., NewJob], statements: list[str]
) -> None:
    def handler(job: Job, context: Context) -> Outcome:
        for _ in range(STEPS):
            context.check(60.0)
        return Outcome(Status.COMPLETED, Decimal("0.01"))

    store.submit(new_job(), TenantLimits())
    statements.clear()
    submitted = store.submit(new_job(), TenantLimits())[0]
    assert len(statements) <= 6  # the tenant and its place; flow, job, hold and bell
    statements.clear()
    store.mark_rung([submitted])
    assert len(statements) == 1
    statements.clear()
    assert run_one(store, bus, handler, ["toy"], "worker", nudges=nudges) is not None
    # Job and lane; row, end, charge and release. And a question a second, however slow this machine is.
    assert len(statements) <= 6 + STEPS // 100


@pytest.mark.parametrize(("told", "ask_s"), [(True, 1e9), (False, 0.05)], ids=["told", "the word was lost"])
def test_a_job_learns_of_its_cancel_between_two_steps(
    store: Store, bus: EventBus, nudges: Nudges, new_job: Callable[..., NewJob], monkeypatch: pytest.MonkeyPatch,
    told: bool, ask_s: float,
) -> None:  # fmt: skip
    """`ask_s`: after which SQL is asked without having been told."""
    monkeypatch.setattr("videosvc_queue.context.ASK_S", ask_s)

    def handler(job: Job, context: Context) -> Outcome:
        context.check()
        store.cancel(job.id, job.tenant)
        if told:
            bus.nudge(job.id)
        while True:
            context.check()

    assert cancelled(store, bus, nudges, new_job, handler)


def test_a_job_hears_of_its_cancel_in_its_rest(
    store: Store, bus: EventBus, nudges: Nudges, new_job: Callable[..., NewJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    for seconds in ("context.ASK_S", "patience.FIRST_REST_S", "patience.LONGEST_REST_S"):
        monkeypatch.setattr(f"videosvc_queue.{seconds}", 1e6)

    def handler(job: Job, context: Context) -> Outcome:
        def cancel() -> None:
            store.cancel(job.id, job.tenant)
            bus.nudge(job.id)

        threading.Timer(0.1, cancel).start()
        raise RuntimeError

    assert cancelled(store, bus, nudges, new_job, handler)


def cancelled(store: Store, bus: EventBus, nudges: Nudges, new_job: Callable[..., NewJob], handler: Handler) -> bool:
    """Whether a job that is run ends so."""
    job = store.submit(new_job(), TenantLimits())[0]
    run_one(store, bus, handler, ["toy"], "worker", nudges=nudges)
    ended = store.get(job.id)
    return ended is not None and ended.status is Status.CANCELLED

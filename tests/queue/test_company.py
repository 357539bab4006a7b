from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from decimal import Decimal

import pytest

from eventually import eventually
from videosvc_queue import company
from videosvc_queue.company import Threads, run_company
from videosvc_queue.context import Context, GiveBack
from videosvc_queue.drain import Drain
from videosvc_queue.events import EventBus
from videosvc_queue.job import Job, NewJob, Status
from videosvc_queue.runner import Outcome
from videosvc_queue.store import Store
from videosvc_queue.tenants import TenantLimits
from videosvc_queue.tiers import Tier

DONE = Outcome(Status.COMPLETED, Decimal("0.01"), 1.5)
PATIENT_S = 60


class Party:
    """A handler whose jobs last until they are told to go on; friends have the same `payload["kind"]`."""

    most = 3

    def __init__(self) -> None:
        self.began: list[str] = []
        self.together: dict[str, set[str]] = {}  # by job: those that ran when it began
        self.ends: dict[str, threading.Event] = {}
        self.inside: set[str] = set()

    def __call__(self, job: Job, context: Context) -> Outcome:
        self.together[job.id] = set(self.inside)
        self.inside.add(job.id)
        self.began.append(job.id)
        try:
            end = self.ends.setdefault(job.id, threading.Event())
            while not end.wait(0.01):
                context.check(60.0)
            if job.payload.get("fails"):
                raise RuntimeError("no such luck")
            return DONE
        finally:
            self.inside.discard(job.id)

    def joins(self, running: Sequence[Job], job: Job) -> bool:
        return len({one.payload["kind"] for one in (job, *running)}) == 1

    def end(self, *jobs: Job) -> None:
        for job in jobs:
            self.ends.setdefault(job.id, threading.Event()).set()

    def began_all(self, *jobs: Job) -> None:
        eventually(lambda: {job.id for job in jobs} <= set(self.began), PATIENT_S)


class Worker:
    """`run_company` in a thread."""

    def __init__(self, store: Store, bus: EventBus, party: Party) -> None:
        self.drain = Drain(1.0)
        self.count = 0
        self._thread = threading.Thread(target=self._run, args=(store, bus, party))

    def _run(self, store: Store, bus: EventBus, party: Party) -> None:
        with closing(Threads()) as threads:
            self.count = run_company(
                store, bus, party, party, ["toy"], "worker", threads=threads, drain=self.drain, beat_s=0.1
            )

    def start(self) -> Worker:
        self._thread.start()
        return self

    def until_idle(self) -> int:
        self._thread.join(PATIENT_S)
        assert not self._thread.is_alive()
        return self.count


@pytest.fixture
def party() -> Party:
    return Party()


@pytest.fixture
def worker(store: Store, bus: EventBus, party: Party) -> Worker:
    return Worker(store, bus, party)


@pytest.fixture
def submit(store: Store, new_job: Callable[..., NewJob]) -> Callable[..., Job]:
    def submit(kind: str = "red", tier: Tier = Tier.INTERACTIVE, **payload: object) -> Job:
        new = new_job(payload={"kind": kind, **payload}, tier=tier)
        return store.submit(new, TenantLimits(max_concurrent=100))[0]

    return submit


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Waits until the worker has looked twice more for a job that joins: what was there is seen."""
    seen = threading.Semaphore(0)
    joining = company._joining

    def looking(*args: object) -> object:
        found = joining(*args)  # type: ignore[arg-type]
        seen.release()
        return found

    monkeypatch.setattr(company, "_joining", looking)
    monkeypatch.setattr(company, "WAIT_S", 0.01)

    def wait() -> None:
        while seen.acquire(blocking=False):
            pass
        for _ in range(2):
            assert seen.acquire(timeout=PATIENT_S)

    return wait


def status(store: Store, job: Job) -> Status:
    row = store.get(job.id)
    assert row is not None
    return row.status


def test_without_a_job_there_is_nothing_to_do(worker: Worker) -> None:
    assert worker.start().until_idle() == 0


def test_friends_run_at_once_and_a_place_that_falls_free_is_taken(
    store: Store, worker: Worker, party: Party, submit: Callable[..., Job]
) -> None:
    jobs = [submit() for _ in range(5)]
    worker.start()
    party.began_all(*jobs[:3])
    assert [status(store, job) for job in jobs[3:]] == [Status.QUEUED] * 2
    party.end(jobs[1])
    party.began_all(jobs[3])
    assert party.together[jobs[3].id] == {jobs[0].id, jobs[2].id}
    party.end(*jobs)
    assert worker.until_idle() == 5
    assert [status(store, job) for job in jobs] == [Status.COMPLETED] * 5
    assert sum(row.charged_usd for row in store.usage("ann", 0, 1e11)) == Decimal("0.05")


def test_nobody_is_let_past_the_fairest(
    store: Store, worker: Worker, party: Party, submit: Callable[..., Job], looks: Callable[[], None]
) -> None:
    first, stranger, friend = submit(), submit("blue"), submit()
    worker.start()
    party.began_all(first)
    looks()
    assert [status(store, job) for job in (stranger, friend)] == [Status.QUEUED] * 2
    party.end(first)
    assert worker.until_idle() == 1  # the next bell is the stranger's


def test_batch_does_not_slow_interactive_down_but_takes_it_in(
    store: Store, worker: Worker, party: Party, submit: Callable[..., Job], looks: Callable[[], None]
) -> None:
    batch = submit(tier=Tier.BATCH)
    worker.start()
    party.began_all(batch)
    urgent, later = submit(), submit(tier=Tier.BATCH)
    party.began_all(urgent)
    looks()
    assert status(store, later) is Status.QUEUED
    party.end(urgent)
    party.began_all(later)
    party.end(batch, later)
    assert worker.until_idle() == 3


def test_an_idle_worker_has_it_to_itself(
    store: Store, worker: Worker, party: Party, submit: Callable[..., Job], looks: Callable[[], None]
) -> None:
    store.register_worker("another", ["toy"], "cpu")
    first, second = submit(), submit()
    worker.start()
    party.began_all(first)
    looks()
    assert status(store, second) is Status.QUEUED
    store.forget_worker("another")
    party.began_all(second)
    party.end(first, second)
    assert worker.until_idle() == 2


def test_one_that_fails_or_is_cancelled_or_lost_leaves_the_others_alone(
    store: Store, worker: Worker, party: Party, submit: Callable[..., Job]
) -> None:
    party.most = 4
    fails, cancelled, lost, well = submit(fails=True), submit(), submit(), submit()
    worker.start()
    party.began_all(fails, cancelled, lost, well)
    store.cancel(cancelled.id, cancelled.tenant)
    eventually(lambda: status(store, cancelled) is Status.CANCELLED, PATIENT_S)
    row = store.get(lost.id)
    assert row is not None
    store.requeue(lost.id, row.fence)
    party.end(fails, lost)
    eventually(lambda: len(party.began) >= 6, PATIENT_S)  # both again
    party.end(well)
    worker.until_idle()
    assert (status(store, well), status(store, lost)) == (Status.COMPLETED, Status.COMPLETED)


def test_a_drain_gives_all_back_and_takes_no_more(
    store: Store, worker: Worker, party: Party, submit: Callable[..., Job]
) -> None:
    jobs = [submit(), submit()]
    worker.start()
    party.began_all(*jobs)
    worker.drain.request()
    assert worker.until_idle() == 2
    assert [status(store, job) for job in jobs] == [Status.QUEUED] * 2


def test_a_job_given_back_is_let_go(store: Store, bus: EventBus, submit: Callable[..., Job]) -> None:
    class Parking(Party):
        def __call__(self, job: Job, context: Context) -> Outcome:
            raise GiveBack(wasted_s=0.5)

        def joins(self, running: Sequence[Job], job: Job) -> bool:
            return False

    job, party = submit(), Parking()
    with closing(Threads()) as threads:
        ran = run_company(store, bus, party, party, ["toy"], "worker", threads=threads, drain=Drain())
    assert ran == 1
    row = store.get(job.id)
    assert row is not None and (row.status, row.wasted_s) == (Status.QUEUED, 0.5)

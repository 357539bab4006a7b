"""Worker processes, and what may befall them. Each job must end exactly once, charged once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import psutil
import pytest
import redis

import gated_worker
from eventually import eventually
from servers import RedisServer
from videosvc_queue import worker_process
from videosvc_queue.celery_app import make_celery, ring
from videosvc_queue.dispatcher import Dispatcher
from videosvc_queue.events import EventBus
from videosvc_queue.job import Job, NewJob, Status
from videosvc_queue.reconciler import Reconciler
from videosvc_queue.store import Store
from videosvc_queue.tenants import TenantLimits
from videosvc_queue.tiers import Tier

LEASE_S = 1.0  # workers here beat every 0.1 s


@dataclass
class Service:
    """The queue as a service has it: a store, a dispatcher, a reconciler, and workers in processes of their own."""

    database_url: str
    redis: RedisServer
    folder: Path
    store: Store
    bus: EventBus
    new_job: Callable[..., NewJob]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_worker(self, drain_s: float = 10, *more: str) -> subprocess.Popen[bytes]:
        """Returns once it waits for jobs."""
        name = f"worker{len(self.workers)}"
        worker = self.begin_worker(drain_s, *more)
        eventually(lambda: worker.poll() is not None or "ready." in self.log(name), timeout_s=60)
        eventually(
            lambda: worker.poll() is not None or name in {alive.name for alive in self.store.live_workers()}, 60
        )
        return worker

    def begin_worker(self, drain_s: float, *more: str) -> subprocess.Popen[bytes]:
        name = f"worker{len(self.workers)}"
        with (self.folder / f"{name}.log").open("wb") as log:
            arguments = [self.database_url, self.redis.url, name, str(drain_s), "toy", *more]
            worker = subprocess.Popen(
                [sys.executable, "-W", "error", gated_worker.__file__, *arguments],
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.workers.append(worker)
        return worker

    def log(self, name: str = "worker0") -> str:
        return (self.folder / f"{name}.log").read_text()

    def submit(
        self, gate: str | None = None, max_run_s: float = 60, tier: Tier = Tier.INTERACTIVE, **payload: object
    ) -> str:
        """A job that runs until its gate is opened, or not at all."""
        if gate is not None:
            payload["gate"] = str(self.folder / gate)
        new = self.new_job(payload=payload, max_run_s=max_run_s, tier=tier)
        return self.store.submit(new, TenantLimits(max_concurrent=100))[0].id

    def open(self, gate: str) -> None:
        (self.folder / gate).touch()

    def job(self, job_id: str) -> Job:
        job = self.store.get(job_id)
        assert job is not None
        return job

    def until(self, job_id: str, status: Status, attempt: int = 1) -> Job:
        """Waits; for a job in progress, until its handler runs."""

        def reached() -> bool:
            job = self.job(job_id)
            if status is Status.IN_PROGRESS:
                return job.status is status and job.detail.get("attempt") == attempt
            return job.status is status

        eventually(reached, timeout_s=60)
        return self.job(job_id)

    def charges(self) -> tuple[int, Decimal]:
        """Number of jobs charged, and the sum."""
        rows = self.store.usage("ann", 0, 1e11)
        return sum(row.jobs for row in rows), sum((row.charged_usd for row in rows), Decimal(0))


@pytest.fixture
def database_url(migrated_sqlite_url: str) -> str:
    return migrated_sqlite_url  # what differs between databases is the store's, and tested there


@pytest.fixture
def service(
    store: Store, database_url: str, own_redis: RedisServer, tmp_path: Path, new_job: Callable[..., NewJob]
) -> Iterator[Service]:
    app = make_celery(own_redis.url)
    bus = EventBus(own_redis.url)
    service = Service(database_url, own_redis, tmp_path, store, bus, new_job)
    with ExitStack() as stack:
        stack.enter_context(Dispatcher(store, app, bus, every_s=0.1))
        stack.enter_context(Reconciler(store, app, bus, lease_s=LEASE_S, every_s=0.1))
        yield service
        for worker in service.workers:
            worker.send_signal(signal.SIGKILL)  # one that is stopped, too
            worker.wait()
    bus.close()


def child_of(worker: subprocess.Popen[bytes]) -> psutil.Process:
    (child,) = psutil.Process(worker.pid).children()
    return child


def test_runs_jobs_one_after_the_other_in_one_warm_process(service: Service) -> None:
    worker = service.start_worker()
    jobs = [service.until(service.submit(), Status.COMPLETED) for _ in range(3)]
    assert {job.result and job.result["worker"] for job in jobs} == {child_of(worker).pid}
    assert service.charges() == (3, Decimal("0.03"))
    assert [event.kind for event in service.bus.read(jobs[0].id)] == ["plan", "completed"]


def test_a_cancelled_job_makes_room_for_the_next(service: Service) -> None:
    service.start_worker()
    job_id = service.submit("never")
    service.until(job_id, Status.IN_PROGRESS)
    waiting = service.submit()
    with redis.Redis.from_url(service.redis.url) as client:
        eventually(lambda: client.llen("videosvc.toy") >= 1)  # where another worker could hear it
    service.store.cancel(job_id, "ann")
    service.until(job_id, Status.CANCELLED)
    service.until(waiting, Status.COMPLETED)
    assert service.charges() == (2, Decimal("0.015"))


@pytest.mark.parametrize("whom", ["worker", "child"])
def test_a_killed_workers_job_runs_again_and_is_charged_once(service: Service, whom: str) -> None:
    first = service.start_worker()
    job_id = service.submit("gate")
    running = service.until(job_id, Status.IN_PROGRESS)
    if whom == "worker":
        child = child_of(first)
        first.kill()
        psutil.wait_procs([child], timeout=10)
        assert not child.is_running()  # it does not go on behind our back
        service.start_worker()
    else:
        child_of(first).kill()  # the parent makes another
    again = service.until(job_id, Status.IN_PROGRESS, attempt=2)
    assert again.fence > running.fence
    service.open("gate")
    done = service.until(job_id, Status.COMPLETED)
    assert (done.attempts, done.result and done.result["attempt"]) == (2, 2)
    assert service.charges() == (1, Decimal("0.01"))


def test_a_job_that_kills_every_worker_ends(service: Service) -> None:
    service.start_worker()
    failed = service.until(service.submit(fault="die"), Status.FAILED)
    assert (failed.error_code, failed.attempts) == ("worker_lost", 3)
    assert service.charges() == (1, Decimal(0))
    assert service.until(service.submit(), Status.COMPLETED).attempts == 1  # the worker is well


def test_a_frozen_worker_is_fenced_off_when_it_thaws(service: Service) -> None:
    frozen = service.start_worker()
    job_id = service.submit("gate")
    service.until(job_id, Status.IN_PROGRESS)
    child = child_of(frozen)
    child.suspend()
    service.start_worker()
    service.until(job_id, Status.IN_PROGRESS, attempt=2)
    child.resume()
    eventually(lambda: "was taken from this worker" in service.log("worker0"))
    service.open("gate")
    done = service.until(job_id, Status.COMPLETED)
    assert done.result and done.result["attempt"] == 2
    assert service.charges() == (1, Decimal("0.01"))


def test_a_wiped_redis_loses_no_job(service: Service) -> None:
    jobs = [service.submit() for _ in range(3)]
    with redis.Redis.from_url(service.redis.url) as client:
        eventually(lambda: client.llen("videosvc.toy") >= 3)
        client.flushall()
    service.start_worker()
    for job_id in jobs:
        service.until(job_id, Status.COMPLETED)
    assert service.charges() == (3, Decimal("0.03"))


def test_a_restarted_redis_loses_no_job(service: Service) -> None:
    service.start_worker()
    running = service.submit("gate")
    service.until(running, Status.IN_PROGRESS)
    service.redis.kill()
    waiting = service.submit()  # accepted all the same
    service.open("gate")
    service.until(running, Status.COMPLETED)  # and the running one ends
    service.redis.start()
    service.until(waiting, Status.COMPLETED)
    assert service.charges() == (2, Decimal("0.02"))
    assert service.job(running).attempts == 1


def test_bells_too_many_do_no_harm(service: Service) -> None:
    job_id = service.submit("gate")
    app = make_celery(service.redis.url)
    for _ in range(20):
        ring(app, job_id, "toy", service.job(job_id).tier)
    ring(app, "no such job", "toy", service.job(job_id).tier)
    for _ in range(2):
        service.start_worker()
    service.until(job_id, Status.IN_PROGRESS)
    service.open("gate")
    assert service.until(job_id, Status.COMPLETED).attempts == 1
    with redis.Redis.from_url(service.redis.url) as client:
        eventually(lambda: client.llen("videosvc.toy") == 0)
    assert service.job(job_id).attempts == 1
    assert service.charges() == (1, Decimal("0.01"))


@pytest.mark.parametrize("to", ["worker", "group"])
def test_sigterm_gives_a_long_job_back(service: Service, to: str) -> None:
    """A group is what systemd stops, and Ctrl-C."""
    worker = service.start_worker()
    job_id = service.submit("gate")
    service.until(job_id, Status.IN_PROGRESS)
    if to == "worker":
        worker.terminate()
    else:
        os.killpg(worker.pid, signal.SIGTERM)
    given_back = service.until(job_id, Status.QUEUED)
    assert given_back.wasted_s == 0.25
    assert worker.wait(60) == 0
    assert service.store.live_workers() == []
    service.start_worker()
    service.open("gate")
    assert service.until(job_id, Status.COMPLETED).attempts == 2
    assert service.charges() == (1, Decimal("0.01"))


def test_sigterm_lets_a_short_job_end(service: Service) -> None:
    worker = service.start_worker(60)
    job_id = service.submit("gate", remaining_s=1)
    service.until(job_id, Status.IN_PROGRESS)
    worker.terminate()
    eventually(lambda: "Warm shutdown" in service.log())
    service.open("gate")
    assert service.until(job_id, Status.COMPLETED).attempts == 1
    assert worker.wait(60) == 0


@pytest.mark.parametrize("to", ["worker", "group"])
def test_sigterm_ends_a_worker_that_still_loads_its_model(service: Service, to: str) -> None:
    worker = service.begin_worker(600, "large")
    eventually(lambda: "loading" in service.log(), timeout_s=60)
    if to == "worker":
        worker.terminate()
    else:
        os.killpg(worker.pid, signal.SIGTERM)
    assert worker.wait(60) == 0  # it does not wait for a model that nobody will use


def test_sigterm_ends_a_worker_without_a_job(service: Service) -> None:
    worker = service.start_worker(600)
    worker.terminate()
    assert worker.wait(60) == 0
    assert "exited with" not in service.log()  # its child was not killed
    assert service.store.live_workers() == []


def test_batch_makes_way_for_interactive_and_goes_on(service: Service) -> None:
    worker = service.start_worker()
    child = child_of(worker)
    batch = service.submit("gate", tier=Tier.BATCH)
    service.until(batch, Status.IN_PROGRESS)
    for attempt in range(2, 6):  # more often than it may lose a worker
        interactive = service.until(service.submit(), Status.COMPLETED)
        assert interactive.attempts == 1
        again = service.until(batch, Status.IN_PROGRESS, attempt)
        assert again.wasted_s == 0.25 * (attempt - 1)  # what its handler says could not be saved
    child.kill()  # and still it may lose one
    service.until(batch, Status.IN_PROGRESS, attempt=6)
    service.open("gate")
    assert service.until(batch, Status.COMPLETED).attempts == 6
    assert service.charges() == (5, Decimal("0.05"))


def test_one_of_two_batch_jobs_makes_way_for_one_interactive(service: Service) -> None:
    for _ in range(2):
        service.start_worker()
    batches = [service.submit("gate", tier=Tier.BATCH) for _ in range(2)]
    for job_id in batches:
        service.until(job_id, Status.IN_PROGRESS)
    interactive = service.submit("other gate")
    service.until(interactive, Status.IN_PROGRESS)
    assert sorted(service.job(job_id).status for job_id in batches) == [Status.IN_PROGRESS, Status.QUEUED]
    service.open("other gate")
    service.until(interactive, Status.COMPLETED)
    service.open("gate")
    assert sorted(service.until(job_id, Status.COMPLETED).attempts for job_id in batches) == [1, 2]


def friends(service: Service, count: int, gate: str = "gate", tier: Tier = Tier.INTERACTIVE) -> list[str]:
    """Jobs that run at once in a worker with a company."""
    return [service.submit(gate, tier=tier, company="friends") for _ in range(count)]


def test_jobs_run_at_once_in_one_process(service: Service) -> None:
    service.start_worker(10, "company")
    jobs = friends(service, 4)
    for job_id in jobs[:3]:
        service.until(job_id, Status.IN_PROGRESS)
    assert service.job(jobs[3]).status is Status.QUEUED  # three at most
    service.open("gate")
    pids = {service.until(job_id, Status.COMPLETED).result["worker"] for job_id in jobs}  # type: ignore[index]
    assert len(pids) == 1
    with redis.Redis.from_url(service.redis.url) as client:
        eventually(lambda: client.llen("videosvc.toy") == 0)  # bells of jobs that were taken in do no harm
    assert service.charges() == (4, Decimal("0.04"))
    assert {service.job(job_id).attempts for job_id in jobs} == {1}


@pytest.mark.parametrize("whom", ["worker", "child"])
def test_a_killed_worker_loses_none_of_its_company(service: Service, whom: str) -> None:
    first = service.start_worker(10, "company")
    jobs = friends(service, 2)
    for job_id in jobs:
        service.until(job_id, Status.IN_PROGRESS)
    if whom == "worker":
        os.killpg(first.pid, signal.SIGKILL)
        service.start_worker(10, "company")
    else:
        child_of(first).kill()
    for job_id in jobs:
        service.until(job_id, Status.IN_PROGRESS, attempt=2)
    service.open("gate")
    for job_id in jobs:
        assert service.until(job_id, Status.COMPLETED).attempts == 2
    assert service.charges() == (2, Decimal("0.02"))


def test_sigterm_gives_a_whole_company_back(service: Service) -> None:
    worker = service.start_worker(10, "company")
    jobs = friends(service, 2)
    for job_id in jobs:
        service.until(job_id, Status.IN_PROGRESS)
    worker.terminate()
    for job_id in jobs:
        assert service.until(job_id, Status.QUEUED).wasted_s == 0.25
    assert worker.wait(60) == 0
    assert service.store.live_workers() == []


def test_a_company_of_batch_makes_way_for_interactive(service: Service) -> None:
    service.start_worker(10, "company")
    jobs = friends(service, 2, tier=Tier.BATCH)
    for job_id in jobs:
        service.until(job_id, Status.IN_PROGRESS)
    service.until(service.submit(), Status.COMPLETED)  # no friend of theirs
    for job_id in jobs:
        service.until(job_id, Status.IN_PROGRESS, attempt=2)
    service.open("gate")
    for job_id in jobs:
        service.until(job_id, Status.COMPLETED)
    assert service.charges() == (3, Decimal("0.03"))


def test_one_of_a_company_that_runs_over_is_ended_by_the_kernel(service: Service) -> None:
    service.start_worker(10, "company")
    (job_id,) = friends(service, 1)
    service.until(job_id, Status.IN_PROGRESS)
    over = service.submit("never", max_run_s=0.5 - worker_process.GRACE_S, company="friends")
    assert service.until(over, Status.FAILED).error_code == "worker_lost"


def test_a_job_that_raises_leaves_the_worker_well(service: Service) -> None:
    worker = service.start_worker()
    child = child_of(worker)
    assert service.until(service.submit(fault="raise", once=True), Status.COMPLETED).attempts == 2
    assert service.until(service.submit(fault="raise"), Status.FAILED).error_code == "internal_error"
    assert service.until(service.submit(), Status.COMPLETED).attempts == 1
    assert child_of(worker).pid == child.pid


@pytest.mark.parametrize("more", [(), ("company",)], ids=["alone", "in company"])
def test_a_process_that_can_run_nothing_any_more_ends_and_another_goes_on(
    service: Service, more: tuple[str, ...]
) -> None:
    worker = service.start_worker(10, *more)
    child = child_of(worker)
    assert service.until(service.submit(fault="unfit", once=True), Status.COMPLETED).attempts == 2
    assert child_of(worker).pid != child.pid
    assert service.until(service.submit(fault="unfit"), Status.FAILED).error_code == "internal_error"
    assert service.until(service.submit(), Status.COMPLETED).attempts == 1
    assert service.charges() == (3, Decimal("0.02"))


def test_a_job_that_runs_over_its_limit_is_ended_by_the_kernel(service: Service) -> None:
    service.start_worker()
    limit_s = 0.5 - worker_process.GRACE_S
    failed = service.until(service.submit("never", max_run_s=limit_s), Status.FAILED)
    assert failed.error_code == "worker_lost"


def test_a_worker_without_a_handler_says_so_and_ends(service: Service) -> None:
    worker = service.start_worker(10, "broken")
    assert worker.wait(60) == 1
    assert "this model is damaged" in service.log()
    assert service.store.live_workers() == []

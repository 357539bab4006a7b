"""Whatever workers, tenants and the reconciler do, in whatever order, under fences old and new."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger_rows import ledger_rows
from videosvc_queue.job import Beat, NewJob, Status
from videosvc_queue.store import Store
from videosvc_queue.tenants import TenantLimits

LIMITS = TenantLimits(max_concurrent=1000, max_queued=1000, per_minute=100_000)
ENDS = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)


@dataclass
class Expected:
    """What a job must be like by all that was done to it."""

    status: Status = Status.QUEUED
    fence: int = 0
    cancel_requested: bool = False
    losses: int = 0
    charged_usd: Decimal = Decimal(0)


class History:
    def __init__(self, store: Store, new_job: Callable[..., NewJob], route: str) -> None:
        self.store, self.new_job, self.route = store, new_job, route
        self.jobs: dict[str, Expected] = {}

    def submit(self) -> None:
        job, _ = self.store.submit(self.new_job(route=self.route), LIMITS)
        self.jobs[job.id] = Expected()

    def claim(self) -> None:
        claim = self.store.claim([self.route], "worker")
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
                job.status, job.charged_usd = end, min(charge_usd, Decimal("0.03"))
        elif action == "cancel":
            if job.status is Status.QUEUED:
                job.status = Status.CANCELLED
            job.cancel_requested |= job.status is Status.IN_PROGRESS
            assert self.store.cancel(job_id, "ann").status is job.status

    def check(self, database_url: str) -> None:
        entries = ledger_rows(database_url)
        for job_id, expected in self.jobs.items():
            job = self.store.get(job_id)
            assert job is not None
            assert job.status is expected.status
            assert (job.completed_at is not None) is expected.status.terminal
            end = {"charge": expected.charged_usd, "release": job.hold_usd} if expected.status.terminal else {}
            assert entries[job_id] == {"hold": job.hold_usd} | end


ACTIONS = st.one_of(
    st.sampled_from(["submit", "claim"]),
    st.tuples(
        st.sampled_from(["beat", "give_back", "requeue", "finish", "cancel"]),
        st.integers(0, 2),  # which job
        st.sampled_from([0, 0, 0, 1, 2, -1]),  # how much older the fence
        st.integers(0, 5),  # cents, percent or end
    ),
)


@given(actions=st.lists(ACTIONS, min_size=5, max_size=30))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_every_history_adds_up(
    store: Store, database_url: str, new_job: Callable[..., NewJob], actions: list[str | tuple[str, int, int, int]]
) -> None:
    route = new_job().id  # none of an earlier example's jobs
    history = History(store, new_job, route)
    history.submit()
    for action in actions:
        if action == "submit":
            history.submit()
        elif action == "claim":
            history.claim()
        else:
            name, which, older, cents = action
            ids = list(history.jobs)
            history.on(str(name), ids[int(which) % len(ids)], int(older), int(cents))
    history.check(database_url)

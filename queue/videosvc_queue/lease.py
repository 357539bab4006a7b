"""A worker's hold on its job: as long as it beats, and its fence is the job's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, update

from videosvc_queue import outbox
from videosvc_queue.database import Database
from videosvc_queue.job import Beat, Job, Status
from videosvc_queue.rows import JOB_COLUMNS, to_job
from videosvc_queue.tables import jobs
from videosvc_queue.transitions import end, move
from videosvc_queue.watch import Watch, answer

MAX_LOSSES = 3


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an attempt came to nothing, as its job tells if it is the last one."""

    code: str
    message: str


WORKER_LOST = Fault("worker_lost", "its worker stopped without a word, once too often")


@dataclass(frozen=True, slots=True)
class Pulse:
    """A lease has run out when its pulse has not changed for the lease's time on the watcher's own steady clock: no
    clock that jumps, here or there, ends one."""

    fence: int
    counter: int


class Leases(Database):
    def beat(
        self, job_id: str, fence: int, *, progress: int | None = None, detail: dict[str, Any] | None = None
    ) -> Beat:
        """Says that the worker lives, and how far it is (`progress` 0 to 100); what is None stays."""
        said = {"progress": progress, "detail": detail}
        alive = (
            update(jobs)
            .where(*_held(job_id, fence))
            .values(beats=jobs.c.beats + 1, **{name: value for name, value in said.items() if value is not None})
            .returning(jobs.c.cancel_requested)
        )
        with self._write_one() as sql:
            return answer(sql.scalar(alive))

    def watch(self, job_id: str, fence: int) -> Watch:
        """What `beat` would answer can be asked of it, at little cost; the caller closes it."""
        return Watch(self._engine, job_id, fence)

    def give_back(self, job_id: str, fence: int, wasted_s: float = 0.0) -> Status | None:
        """Queues the job again, in its old place, or ends it as CANCELLED, uncharged, if that was asked for.

        `wasted_s`: compute that has to be done again. Its status then: QUEUED or CANCELLED. None: fenced off.
        """
        now = self._clock()
        with self._write() as sql:
            job = lock_held(sql, job_id, fence)
            if job is None:
                return None
            if job.cancel_requested:
                return end(sql, job, Status.CANCELLED, now, wasted_s=job.wasted_s + wasted_s).status
            _queue_again(sql, job, now, wasted_s=job.wasted_s + wasted_s)
            return Status.QUEUED

    def heartbeats(self) -> dict[str, Pulse]:
        """Of each job in progress, by its id."""
        pulses = select(jobs.c.id, jobs.c.fence, jobs.c.beats).where(jobs.c.status == Status.IN_PROGRESS)
        with self._read() as sql:
            return {row.id: Pulse(row.fence, row.beats) for row in sql.execute(pulses)}

    def requeue(
        self, job_id: str, fence: int, max_losses: int = MAX_LOSSES, fault: Fault = WORKER_LOST
    ) -> Status | None:
        """Takes a job from an attempt that came to nothing. Its status then: QUEUED; CANCELLED, uncharged, if that was
        asked for; FAILED with the fault's code if this is the `max_losses`-th such attempt, however many times it was
        given back besides. None: fenced off."""
        now = self._clock()
        with self._write() as sql:
            job = lock_held(sql, job_id, fence)
            if job is None:
                return None
            losses = 1 + sql.scalars(select(jobs.c.losses).where(jobs.c.id == job_id)).one()
            if job.cancel_requested:
                return end(sql, job, Status.CANCELLED, now, losses=losses).status
            if losses >= max_losses:
                failed = end(
                    sql, job, Status.FAILED, now, losses=losses, error_code=fault.code, error_message=fault.message
                )
                return failed.status
            _queue_again(sql, job, now, losses=losses)
            return Status.QUEUED


def lock_held(sql: Connection, job_id: str, fence: int) -> Job | None:
    """The job if it is in progress under this fence; nobody else changes it before the transaction's end."""
    row = sql.execute(select(*JOB_COLUMNS).where(*_held(job_id, fence)).with_for_update()).one_or_none()
    return None if row is None else to_job(row)


def _held(job_id: str, fence: int) -> tuple[Any, ...]:
    return jobs.c.id == job_id, jobs.c.fence == fence, jobs.c.status == Status.IN_PROGRESS


def _queue_again(sql: Connection, job: Job, now: float, **values: Any) -> None:
    sql.execute(
        move(Status.IN_PROGRESS, Status.QUEUED).where(jobs.c.id == job.id).values(fence=job.fence + 1, **values)
    )
    outbox.ring(sql, job, now)

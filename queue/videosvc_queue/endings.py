"""How a job ends: its worker finishes it, or its tenant cancels or deletes it. The first one wins."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, case, select, update

from videosvc_queue.database import Database
from videosvc_queue.fair_share import leave_place
from videosvc_queue.job import Job, Status
from videosvc_queue.lease import lock_held
from videosvc_queue.rows import JOB_COLUMNS, to_job
from videosvc_queue.tables import jobs
from videosvc_queue.transitions import end


class Endings(Database):
    def finish(
        self,
        job_id: str,
        fence: int,
        status: Status,
        *,
        result: dict[str, Any] | None,
        charge_usd: Decimal,
        compute_s: float = 0.0,
        error_code: str | None = None,
        error_message: str | None = None,
        detail: dict[str, Any] | None = None,
        expires_at: float | None = None,
    ) -> bool:
        """Ends the caller's job: status, result, charge (at most the hold), release and webhook, all or nothing.

        `compute_s`: device-seconds used, for `usage`; `expires_at`: when its artifacts may go (None: it has none).
        False: the job is not the caller's any more, and nothing was written. Raises ValueError if `status` is no end.
        """
        now = self._clock()
        with self._write() as sql:
            job = lock_held(sql, job_id, fence)
            if job is None:
                return False
            end(
                sql,
                job,
                status,
                now,
                charge_usd,
                compute_s,
                result=result,
                error_code=error_code,
                error_message=error_message,
                detail=job.detail if detail is None else detail,
                progress=100 if status is Status.COMPLETED else job.progress,
                expires_at=case((jobs.c.deleted_at.is_not(None), now), else_=expires_at),
            )
            return True

    def cancel(self, job_id: str, tenant: str) -> Job:
        """A queued job ends at once, a running one is asked to stop, an ended one stays as it is.

        Raises LookupError.
        """
        with self._write(lock=f"tenant {tenant}") as sql:  # as submit: both write the tenant's place in fair order
            job = _lock_visible(sql, job_id, tenant)
            if job is None:
                raise LookupError(job_id)
            return _cancel(sql, job, self._clock())

    def delete(self, job_id: str, tenant: str) -> Job | None:
        """Cancels the job and hides it; its artifacts expire. None: the tenant has no such job."""
        now = self._clock()
        with self._write(lock=f"tenant {tenant}") as sql:  # as submit: both write the tenant's place in fair order
            job = _lock_visible(sql, job_id, tenant)
            if job is None:
                return None
            job = _cancel(sql, job, now)
            gone = update(jobs).where(jobs.c.id == job_id).values(deleted_at=now).returning(*JOB_COLUMNS)
            if job.status.terminal:  # nobody is shown it any more; a worker's one is forgotten once that has ended
                gone = gone.values(payload={}, detail={}, result=None, metadata={}, webhook_url=None)
            if job.expires_at is not None:
                gone = gone.values(expires_at=min(job.expires_at, now))
            return to_job(sql.execute(gone).one())


def _lock_visible(sql: Connection, job_id: str, tenant: str) -> Job | None:
    mine = (jobs.c.id == job_id, jobs.c.tenant == tenant, jobs.c.deleted_at.is_(None))
    row = sql.execute(select(*JOB_COLUMNS).where(*mine).with_for_update()).one_or_none()
    return None if row is None else to_job(row)


def _cancel(sql: Connection, job: Job, now: float) -> Job:
    if job.status is Status.QUEUED:
        leave_place(sql, job.id)
        return end(sql, job, Status.CANCELLED, now)
    if job.status is Status.IN_PROGRESS:
        ask = update(jobs).where(jobs.c.id == job.id).values(cancel_requested=True).returning(*JOB_COLUMNS)
        return to_job(sql.execute(ask).one())
    return job

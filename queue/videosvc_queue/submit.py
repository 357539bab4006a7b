"""Taking a job in: once for each idempotency key, within its tenant's limits, with its price held."""

from __future__ import annotations

import math
from decimal import Decimal

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from videosvc_queue import ledger
from videosvc_queue.balances import balance_of
from videosvc_queue.database import Database
from videosvc_queue.errors import IdempotencyConflict, QueueError, QueueFull, QuotaExceeded
from videosvc_queue.fair_share import REACHED, take_place
from videosvc_queue.job import Job, NewJob, Status
from videosvc_queue.outbox import ring
from videosvc_queue.postgres import together
from videosvc_queue.rows import JOB_COLUMNS, to_job
from videosvc_queue.tables import idempotency, jobs
from videosvc_queue.tenants import TenantLimits, find_or_add

KEY_LIFE_S = 24 * 3600
DAY_S = 24 * 3600
TOP_UP_S = 3600.0  # until a client whose balance is used up may ask again: somebody has to pay first

# Made once: making a statement takes longer than running it, and under SQLite others wait meanwhile.
_MINE = jobs.c.tenant == bindparam("tenant")
_LATELY = _MINE & (jobs.c.created_at > bindparam("since"))
_STANDING = select(
    select(func.count()).where(_MINE, jobs.c.status == Status.QUEUED).scalar_subquery().label("waiting"),
    select(func.count()).where(_LATELY).scalar_subquery().label("in_minute"),
    select(func.min(jobs.c.created_at)).where(_LATELY).scalar_subquery().label("oldest"),
    *(reached.label(f"reached_{number}") for number, reached in enumerate(REACHED)),
)
_ADD = insert(jobs)


class JobDeleted(QueueError):
    """The idempotency key's job was deleted by its tenant. Another one would be charged on a late retry."""


class Submission(Database):
    def submit(self, job: NewJob, limits: TenantLimits) -> tuple[Job, bool]:
        """The job, and whether it is an earlier one, submitted with the same idempotency key and body.

        A tenant not known yet is added with these limits. Raises QueueFull, QuotaExceeded, IdempotencyConflict,
        JobDeleted.
        """
        now = self._clock()
        with self._write(lock=f"tenant {job.tenant}") as sql:
            if job.idempotency_key is not None:
                earlier = _earlier(sql, job.tenant, job.idempotency_key, job.body_hash, now)
                if earlier is not None:
                    return earlier, True
                _remember(sql, job, now)
            tenant = find_or_add(sql, job.tenant, limits, now)
            here = {"tenant": job.tenant, "since": now - 60, "route": job.route, "tier": job.tier}
            waiting, in_minute, oldest, *reached = sql.execute(_STANDING, here).one()
            _check(job, limits, now, waiting, in_minute, oldest)
            if limits.usd_per_day is not None:
                _check_day(sql, job, limits.usd_per_day, now)
            if tenant.limits.prepaid:  # as it is now: `limits` may be some seconds old
                _check_balance(sql, job)
            start = max(reached)
            finish = start + job.predicted_s / limits.weight
            made = _made(job, now, start)
            with together(sql):
                sql.execute(_ADD, _row(made, finish))
                take_place(sql, job, finish)
                ledger.hold(sql, job.tenant, job.id, job.hold_usd, now)
                ring(sql, made, now)
            return made, False

    def replay(self, tenant: str, key: str, body_hash: str) -> Job | None:
        """The job that `submit` would answer for this key, before any work is done.

        Raises IdempotencyConflict, JobDeleted.
        """
        with self._read() as sql:
            return _earlier(sql, tenant, key, body_hash, self._clock())


def _earlier(sql: Connection, tenant: str, key: str, body_hash: str | None, now: float) -> Job | None:
    used = sql.execute(
        select(*JOB_COLUMNS, idempotency.c.body_hash, jobs.c.deleted_at)
        .join(jobs, jobs.c.id == idempotency.c.job_id)
        .where(idempotency.c.tenant == tenant, idempotency.c.key == key)
        .where(idempotency.c.created_at > now - KEY_LIFE_S)
    ).one_or_none()
    if used is None:
        return None
    if used.body_hash != body_hash:
        raise IdempotencyConflict(key)
    if used.deleted_at is not None:
        raise JobDeleted(f"the job of idempotency key {key!r} was deleted")
    return to_job(used)


def _remember(sql: Connection, job: NewJob, now: float) -> None:
    key = {"tenant": job.tenant, "key": job.idempotency_key}
    sql.execute(delete(idempotency).filter_by(**key))  # one that is too old
    sql.execute(insert(idempotency), key | {"body_hash": job.body_hash, "job_id": job.id, "created_at": now})


def _check(
    job: NewJob, limits: TenantLimits, now: float, waiting: int, in_minute: int, oldest: float | None
) -> None:
    """`in_minute`: jobs of the last one, the first of which came at `oldest`."""
    if waiting >= limits.max_queued:
        raise QueueFull(limits.max_queued, retry_after_s=max(1.0, job.predicted_s))
    if in_minute >= limits.per_minute:
        wait_s = 60.0 if oldest is None else max(1.0, oldest + 60 - now)
        raise QuotaExceeded("per_minute", f"{limits.per_minute} jobs a minute are the most", wait_s)


def _check_day(sql: Connection, job: NewJob, usd_per_day: Decimal, now: float) -> None:
    spent = ledger.spent_on(sql, job.tenant, now)
    if spent + job.hold_usd > usd_per_day:
        left = max(usd_per_day - spent, Decimal(0))
        price, rest, limit = (f"{usd.normalize():f}" for usd in (job.hold_usd, left, usd_per_day))
        message = f"{price} USD are more than the {rest} left of {limit} USD a day"
        raise QuotaExceeded("usd_per_day", message, math.ceil(DAY_S - now % DAY_S))


def _check_balance(sql: Connection, job: NewJob) -> None:
    balance = balance_of(sql, job.tenant)
    if job.hold_usd > balance.free_usd:
        price, rest, paid = (f"{usd.normalize():f}" for usd in (job.hold_usd, balance.free_usd, balance.usd))
        message = f"{price} USD are more than the {rest} that open jobs leave of the balance of {paid} USD"
        raise QuotaExceeded("balance", message, TOP_UP_S)


def _made(job: NewJob, now: float, start: float) -> Job:
    return Job(
        id=job.id,
        tenant=job.tenant,
        tier=job.tier,
        route=job.route,
        status=Status.QUEUED,
        payload=job.payload,
        detail={},
        result=None,
        error_code=None,
        error_message=None,
        predicted_s=job.predicted_s,
        hold_usd=job.hold_usd,
        max_run_s=job.max_run_s,
        progress=0,
        attempts=0,
        fence=0,
        wasted_s=0.0,
        created_at=now,
        virtual_start=start,
        started_at=None,
        completed_at=None,
        expires_at=None,
        cancel_requested=False,
        worker=None,
        webhook_url=job.webhook_url,
        metadata=dict(job.metadata or {}),
        removed_at=None,
    )


def _row(job: Job, finish: float) -> dict[str, object]:
    fields = {column.name: getattr(job, column.name) for column in JOB_COLUMNS}
    place = {"tier_rank": job.tier.priority, "virtual_finish": finish}
    return {**fields, **place, "beats": 0, "losses": 0}

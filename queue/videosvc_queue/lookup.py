"""Reading jobs."""

from __future__ import annotations

import builtins
from collections.abc import Collection, Mapping
from typing import Any, Literal

from sqlalchemy import Connection, bindparam, func, select, tuple_

from videosvc_queue.database import Database
from videosvc_queue.fair_share import FAIR_ORDER, next_start
from videosvc_queue.job import Ahead, Job, Status
from videosvc_queue.rows import JOB_COLUMNS, to_job
from videosvc_queue.tables import jobs, workers
from videosvc_queue.tiers import Tier
from videosvc_queue.workers import LIVE_S

# What is asked most, by every poll: made once, as making a statement takes longer than running it.
_ALIVE = workers.c.route == bindparam("route"), workers.c.seen_at > bindparam("seen_after")
# Routes whose jobs stand in one line with those of the route: all that its workers take.
_SHARED = jobs.c.route.in_(
    select(bindparam("route", type_=jobs.c.route.type)).union(
        select(workers.c.route).where(workers.c.name.in_(select(workers.c.name).where(*_ALIVE)))
    )
)
_KEPT = select(*JOB_COLUMNS).where(jobs.c.deleted_at.is_(None))
_JOB = _KEPT.where(jobs.c.id == bindparam("job_id"))
_JOBS = _KEPT.where(jobs.c.id.in_(bindparam("job_ids", expanding=True)))
LEFT_S = func.sum(jobs.c.predicted_s * (1.0 - jobs.c.progress / 100.0))  # of running jobs
_RUNNING = select(LEFT_S).where(jobs.c.status == Status.IN_PROGRESS, _SHARED)
_LIVE = select(func.count()).select_from(workers).where(*_ALIVE)
_BEFORE = select(
    func.count(),
    func.coalesce(func.sum(jobs.c.predicted_s), 0.0),
    func.coalesce(_RUNNING.scalar_subquery(), 0.0),
    _LIVE.scalar_subquery(),
).where(
    jobs.c.status == Status.QUEUED,
    _SHARED,
    tuple_(*FAIR_ORDER) < tuple_(*(bindparam(column.name, type_=column.type) for column in FAIR_ORDER)),
)


class Lookup(Database):
    def get(self, job_id: str, tenant: str | None = None) -> Job | None:
        """None: there is no such job, its tenant deleted it, or it is not of this `tenant` (None: anybody's)."""
        with self._read() as sql:
            row = sql.execute(_JOB, {"job_id": job_id}).one_or_none()
        return None if row is None or tenant not in (None, row.tenant) else to_job(row)

    def find(self, job_ids: Collection[str]) -> builtins.list[Job]:
        """Those that there are and that nobody deleted, in any order."""
        if len(job_ids) == 1:  # as most polls are: it takes half as long
            job = self.get(*job_ids)
            return [] if job is None else [job]
        with self._read() as sql:
            return [to_job(row) for row in sql.execute(_JOBS, {"job_ids": [*job_ids]})]

    def list(
        self, tenant: str, after: str | None = None, limit: int = 20, order: Literal["asc", "desc"] = "desc"
    ) -> builtins.list[Job]:
        """By time of submission, from the first behind job `after`. Raises LookupError if that is not the tenant's."""
        place = tuple_(jobs.c.created_at, jobs.c.id)
        page = select(*JOB_COLUMNS).where(jobs.c.tenant == tenant, jobs.c.deleted_at.is_(None)).limit(limit)
        page = page.order_by(*(column.asc() if order == "asc" else column.desc() for column in place.clauses))
        with self._read() as sql:
            if after is not None:
                cursor = sql.execute(
                    select(jobs.c.created_at, jobs.c.id).where(jobs.c.id == after, jobs.c.tenant == tenant)
                ).one_or_none()
                if cursor is None:
                    raise LookupError(after)
                page = page.where(place > tuple(cursor) if order == "asc" else place < tuple(cursor))
            return [to_job(row) for row in sql.execute(page)]

    def ahead(self, job: Job) -> Ahead:
        """What stands now before `job`, which was queued when it was read: its place never changes."""
        here = {"route": job.route, "seen_after": self._clock() - LIVE_S}
        place = {"tier_rank": job.tier.priority, "virtual_start": job.virtual_start}
        with self._read() as sql:
            return _ahead(sql, here, {**place, "created_at": job.created_at, "id": job.id})

    def ahead_of_next(self, tenant: str, route: str, tier: Tier) -> Ahead:
        """What would stand before a job that the tenant submitted now."""
        now = self._clock()
        here = {"route": route, "seen_after": now - LIVE_S}
        with self._read() as sql:
            start = next_start(sql, tenant, route, tier)
            place = {"tier_rank": tier.priority, "virtual_start": start, "created_at": now, "id": ""}
            return _ahead(sql, here, place)


def _ahead(sql: Connection, here: Mapping[str, Any], place: Mapping[str, Any]) -> Ahead:
    count, queued_s, running_s, alive = sql.execute(_BEFORE, {**here, **place}).one()
    return Ahead(count, queued_s + running_s, alive)

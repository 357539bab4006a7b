"""Reading jobs."""

from __future__ import annotations

import builtins
from typing import Literal

from sqlalchemy import and_, case, func, or_, select, tuple_

from videosvc_queue.database import Database
from videosvc_queue.fair_share import FAIR_ORDER
from videosvc_queue.job import Ahead, Job, Status
from videosvc_queue.rows import JOB_COLUMNS, to_job
from videosvc_queue.tables import jobs, workers
from videosvc_queue.workers import LIVE_S


class Lookup(Database):
    def get(self, job_id: str, tenant: str | None = None) -> Job | None:
        """None: there is no such job, its tenant deleted it, or it is not of this `tenant` (None: anybody's)."""
        wanted = select(*JOB_COLUMNS).where(jobs.c.id == job_id, jobs.c.deleted_at.is_(None))
        if tenant is not None:
            wanted = wanted.where(jobs.c.tenant == tenant)
        with self._read() as sql:
            row = sql.execute(wanted).one_or_none()
            return None if row is None else to_job(row)

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
        """What stands before `job` now."""
        me = jobs.alias("me")
        earlier = tuple_(*FAIR_ORDER) < tuple_(*(me.c[column.name] for column in FAIR_ORDER))
        queued = jobs.c.status == Status.QUEUED
        left_s = jobs.c.predicted_s * case((queued, 1.0), else_=1.0 - jobs.c.progress / 100.0)
        live = select(func.count()).where(workers.c.route == job.route, workers.c.seen_at > self._clock() - LIVE_S)
        before = (
            select(
                func.coalesce(func.sum(case((queued, 1), else_=0)), 0),
                func.coalesce(func.sum(left_s), 0.0),
                live.scalar_subquery(),
            )
            .join_from(jobs, me, me.c.id == job.id)
            .where(me.c.status == Status.QUEUED, jobs.c.route == job.route)
            .where(or_(jobs.c.status == Status.IN_PROGRESS, and_(queued, earlier)))
        )
        with self._read() as sql:
            count, compute_s, workers_alive = sql.execute(before).one()
            return Ahead(count, compute_s, workers_alive)

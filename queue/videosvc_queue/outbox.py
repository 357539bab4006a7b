"""Doorbells: messages about queued jobs, written with the job and rung after the commit. One too many does no harm."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, or_, select

from videosvc_queue.database import Database
from videosvc_queue.due import take_due
from videosvc_queue.job import Job, Status
from videosvc_queue.tables import jobs, outbox
from videosvc_queue.tiers import Tier


@dataclass(frozen=True, slots=True)
class Ring:
    """One doorbell to ring."""

    id: int
    job_id: str
    route: str
    tier: Tier


@dataclass(frozen=True, slots=True)
class Backlog:
    """The queued jobs of one route and tier."""

    route: str
    tier: Tier
    jobs: int
    job_id: str  # one of them


class Outbox(Database):
    def due_outbox(self, limit: int = 100, hold_s: float = 5.0) -> list[Ring]:
        """Doorbells nobody is ringing, oldest first. They are the caller's for `hold_s`, then due again."""
        with self._read() as sql:
            if sql.scalar(select(outbox.c.id).where(outbox.c.due_at <= self._clock()).limit(1)) is None:
                return []
        with self._write_one() as sql:
            rows = take_due(sql, outbox, limit, hold_s, self._clock())
        rings = [Ring(row.id, row.job_id, row.route, row.tier) for row in rows]
        return sorted(rings, key=lambda taken: taken.id)

    def mark_published(self, ids: Collection[int]) -> None:
        with self._write_one() as sql:
            sql.execute(delete(outbox).where(outbox.c.id.in_(ids)))

    def mark_rung(self, submitted: Collection[Job]) -> None:
        """The doorbells of these jobs' submission were rung without having been taken; one that was taken stays."""
        theirs = ((outbox.c.job_id == job.id) & (outbox.c.due_at == job.created_at) for job in submitted)
        with self._write_one() as sql:
            sql.execute(delete(outbox).where(or_(*theirs)))

    def rings_needed(self, routes: Sequence[str] | None = None) -> list[Backlog]:
        """Where jobs wait (of `routes`, or anywhere), interactive ones first."""
        waiting = (
            select(
                jobs.c.route,
                jobs.c.tier,
                func.count().label("jobs"),
                func.min(jobs.c.id).label("job_id"),
            )
            .where(jobs.c.status == Status.QUEUED)
            .group_by(jobs.c.tier_rank, jobs.c.tier, jobs.c.route)
            .order_by(jobs.c.tier_rank, jobs.c.route)
        )
        if routes is not None:
            waiting = waiting.where(jobs.c.route.in_(routes))
        with self._read() as sql:
            return [Backlog(**row._mapping) for row in sql.execute(waiting)]


_ADD = insert(outbox).inline()  # nobody asks for its number


def ring(sql: Connection, job: Job, now: float) -> None:
    """Writes the doorbell of a job that is queued now."""
    row = {"job_id": job.id, "route": job.route, "tier": job.tier, "due_at": now}
    sql.execute(_ADD, row)

"""Taking the fairest job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Double, Select, bindparam, func, select

from videosvc_queue.database import Database
from videosvc_queue.fair_share import FAIR_ORDER, advance
from videosvc_queue.job import Claim, Job, Status
from videosvc_queue.rows import JOB_COLUMNS, to_job
from videosvc_queue.tables import jobs, tenants
from videosvc_queue.transitions import move

BUSY_TENANTS = (  # that have their `max_concurrent` in progress already
    select(jobs.c.tenant)
    .join(tenants, tenants.c.name == jobs.c.tenant)
    .where(jobs.c.status == Status.IN_PROGRESS)
    .group_by(jobs.c.tenant, tenants.c.max_concurrent)
    .having(func.count() >= tenants.c.max_concurrent)
)


def _fairest(*columns: ColumnElement[Any]) -> Select[Any]:
    routes = jobs.c.route.in_(bindparam("routes", expanding=True))
    return (
        select(*columns)
        .where(jobs.c.status == Status.QUEUED, routes, jobs.c.tenant.not_in(BUSY_TENANTS))
        .order_by(*FAIR_ORDER)
        .limit(1)
    )


# Made once: making a statement takes longer than running it, and other workers wait for their turn.
_NEXT = _fairest(*JOB_COLUMNS)
_TAKE = (
    move(Status.QUEUED, Status.IN_PROGRESS)
    # PostgreSQL: past a job that is being cancelled
    .where(jobs.c.id == _fairest(jobs.c.id).with_for_update(skip_locked=True).scalar_subquery())
    .values(
        worker=bindparam("by"),
        fence=jobs.c.fence + 1,
        attempts=jobs.c.attempts + 1,
        started_at=func.coalesce(jobs.c.started_at, bindparam("now", type_=Double)),
    )
    .returning(*JOB_COLUMNS, jobs.c.losses)
)
_TAKE_ONLY = _TAKE.where(jobs.c.id == bindparam("only"))


class Claiming(Database):
    def next_job(self, routes: Sequence[str]) -> Job | None:
        """What `claim` would take now. Reads only."""
        with self._read() as sql:
            row = sql.execute(_NEXT, {"routes": routes}).one_or_none()
        return None if row is None else to_job(row)

    def claim(self, routes: Sequence[str], worker: str, only: str | None = None) -> Claim | None:
        """The fairest queued job of these routes whose tenant has not its `max_concurrent` in progress already.

        It is `worker`'s as long as its heartbeat goes on (`beat`), under the claim's fence. `only`: nothing is
        taken if that is another job.
        """
        how = {"routes": routes, "by": worker, "now": self._clock()}
        # A power cut that undoes a claim must end its worker too, and the fence with it: SQLite's are on this machine.
        durable = not self._is_sqlite
        with self._write(lock="claim", durable=durable) as sql:  # one at a time, for max_concurrent to hold
            taken = sql.execute(*((_TAKE, how) if only is None else (_TAKE_ONLY, {**how, "only": only}))).one_or_none()
            if taken is None:
                return None
            advance(sql, routes, taken.tier, taken.virtual_start)
            return Claim(to_job(taken), taken.fence, taken.losses)

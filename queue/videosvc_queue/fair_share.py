"""Start-time fair queueing: each tenant gets compute by its weight, however many jobs it has queued.

A lane is a route and a tier, and has a virtual time in seconds of compute. A job's place in it is settled at submit: it
starts where the tenant's job before it finishes, but not before the lane's virtual time, so 1000 jobs of one tenant
stand behind each other, and the first job of another goes next. Workers take the lowest start.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, func, literal_column, select, update
from sqlalchemy.dialects import postgresql, sqlite

from videosvc_queue.database import upsert
from videosvc_queue.job import NewJob
from videosvc_queue.tables import flows, jobs, lanes
from videosvc_queue.tiers import Tier

FAIR_ORDER = (jobs.c.tier_rank, jobs.c.virtual_start, jobs.c.created_at, jobs.c.id)

# How far the lane is, and where the tenant's job before finishes: the later of them is the virtual start of its next
# job. Parameters: tenant, route, tier.
REACHED = (
    select(func.coalesce(func.max(lanes.c.virtual_time), 0.0))
    .where(lanes.c.route == bindparam("route"), lanes.c.tier == bindparam("tier"))
    .scalar_subquery(),
    select(func.coalesce(func.max(flows.c.finish_tag), 0.0))
    .where(
        flows.c.tenant == bindparam("tenant"),
        flows.c.route == bindparam("route"),
        flows.c.tier == bindparam("tier"),
    )
    .scalar_subquery(),
)
_NEXT = select(*REACHED)
# Made once, as REACHED is: making it took longer than running it.
_TAKE = {
    dialect: insert(flows).on_conflict_do_update(
        index_elements=["tenant", "route", "tier"], set_={"finish_tag": literal_column("excluded.finish_tag")}
    )
    for dialect, insert in (("sqlite", sqlite.insert), ("postgresql", postgresql.insert))
}


def next_start(sql: Connection, tenant: str, route: str, tier: Tier) -> float:
    """Virtual start of the tenant's next job."""
    return float(max(sql.execute(_NEXT, {"tenant": tenant, "route": route, "tier": tier}).one()))


def take_place(sql: Connection, job: NewJob, finish: float) -> None:
    """A new job has its place, up to the virtual time `finish`."""
    place = {"tenant": job.tenant, "route": job.route, "tier": job.tier, "finish_tag": finish}
    sql.execute(_TAKE[sql.dialect.name], place)


def leave_place(sql: Connection, job_id: str) -> None:
    """A queued job was cancelled: its tenant has that share to use again."""
    place = select(jobs.c.tenant, jobs.c.route, jobs.c.tier, jobs.c.virtual_start, jobs.c.virtual_finish)
    left = sql.execute(place.where(jobs.c.id == job_id)).one()
    sql.execute(
        update(flows)
        .where(flows.c.tenant == left.tenant, flows.c.route == left.route, flows.c.tier == left.tier)
        .values(finish_tag=flows.c.finish_tag - (left.virtual_finish - left.virtual_start))
    )


def advance(sql: Connection, routes: Sequence[str], tier: Tier, virtual_start: float) -> None:
    """A worker of these routes took a job. All its lanes move on together: a route that stood idle, and with it its
    next job, would otherwise lag behind, and have the worker to itself until it had caught up."""
    rows = [{"route": route, "tier": tier, "virtual_time": virtual_start} for route in routes]
    insert = upsert(sql, lanes)
    sql.execute(
        insert.on_conflict_do_update(
            index_elements=["route", "tier"],
            set_={"virtual_time": insert.excluded.virtual_time},
            where=lanes.c.virtual_time < insert.excluded.virtual_time,
        ),
        rows,
    )

"""Every change of a job's status goes through here."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Update, update

from videosvc_queue import deliveries, ledger
from videosvc_queue.job import ALLOWED, Job, Status
from videosvc_queue.postgres import together
from videosvc_queue.rows import JOB_COLUMNS, to_job
from videosvc_queue.tables import jobs


def move(source: Status, target: Status) -> Update:
    """The statement, for the caller to say which job. Raises ValueError if there is no such transition."""
    if target not in ALLOWED[source]:
        raise ValueError(f"a job that is {source} cannot become {target}")
    return update(jobs).where(jobs.c.status == source).values(status=target)


def end(
    sql: Connection,
    job: Job,
    target: Status,
    now: float,
    charge_usd: Decimal = Decimal(0),
    compute_s: float = 0.0,
    **values: Any,
) -> Job:
    """Ends a job that the caller has locked: status and `values`, charge, release, webhook."""
    if not target.terminal:
        raise ValueError(f"{target} is no end")
    row = sql.execute(
        move(job.status, target)
        .where(jobs.c.id == job.id)
        .values(completed_at=now, **values)
        .returning(*JOB_COLUMNS)
    ).one()
    ended = to_job(row)
    with together(sql):
        ledger.settle(sql, job, charge_usd, compute_s, now)
        deliveries.announce(sql, ended, now)
    return ended

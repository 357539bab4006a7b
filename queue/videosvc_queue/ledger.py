"""Money: what is held for jobs, and charged at their end. Each job has one hold, then one charge and one release.

What tenants paid in advance are rows of the ledger too: see balances.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from sqlalchemy import Connection, Select, func, insert, select

from videosvc_queue.database import Database
from videosvc_queue.job import Job, Status
from videosvc_queue.tables import jobs, ledger
from videosvc_queue.tiers import Tier


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What a tenant's jobs that ended on one day took."""

    day: str  # UTC: 2026-11-21
    route: str
    tier: Tier
    jobs: int
    compute_s: float
    charged_usd: Decimal


class Ledger(Database):
    def usage(self, tenant: str, from_s: float, to_s: float) -> list[UsageRow]:
        """From Unix second `from_s` to before `to_s`, oldest day first."""
        # Those of a job whose row is gone have it themselves: see retention.py.
        route, tier = func.coalesce(jobs.c.route, ledger.c.route), func.coalesce(jobs.c.tier, ledger.c.tier)
        charges = (
            select(
                ledger.c.day,
                route.label("route"),
                tier.label("tier"),
                func.count().label("jobs"),
                func.sum(ledger.c.compute_s).label("compute_s"),
                func.sum(ledger.c.amount_usd).label("charged_usd"),
            )
            .outerjoin(jobs, jobs.c.id == ledger.c.job_id)
            .where(ledger.c.tenant == tenant, ledger.c.kind == "charge")
            .where(ledger.c.created_at >= from_s, ledger.c.created_at < to_s)
            .group_by(ledger.c.day, route, tier)
            .order_by(ledger.c.day, route, tier)
        )
        with self._read() as sql:
            return [UsageRow(**row._mapping) for row in sql.execute(charges)]

    def spent_today(self, tenant: str) -> Decimal:
        """USD charged since midnight UTC, and held for jobs not yet at their end."""
        with self._read() as sql:
            return spent_on(sql, tenant, self._clock())


def spent_on(sql: Connection, tenant: str, now: float) -> Decimal:
    """`Ledger.spent_today`, for the day of `now`."""
    charged = select(func.coalesce(func.sum(ledger.c.amount_usd), Decimal(0))).where(
        ledger.c.tenant == tenant, ledger.c.day == day(now), ledger.c.kind == "charge"
    )
    # One statement: a job that ends between two would be in neither sum on PostgreSQL.
    sums = sql.execute(select(charged.scalar_subquery(), open_holds(tenant).scalar_subquery())).one()
    spent: Decimal = sums[0] + sums[1]
    return spent


def open_holds(tenant: str) -> Select[tuple[Decimal]]:
    """USD held for the tenant's jobs that are not at their end."""
    return select(func.coalesce(func.sum(jobs.c.hold_usd), Decimal(0))).where(
        jobs.c.tenant == tenant, jobs.c.status.in_([Status.QUEUED, Status.IN_PROGRESS])
    )


def hold(sql: Connection, tenant: str, job_id: str, amount_usd: Decimal, now: float) -> None:
    _enter(sql, tenant, job_id, "hold", amount_usd, 0.0, now)


def settle(sql: Connection, job: Job, charge_usd: Decimal, compute_s: float, now: float) -> None:
    """At a job's end: charges at most what is held, and releases all of it."""
    _enter(sql, job.tenant, job.id, "charge", min(charge_usd, job.hold_usd), compute_s, now)
    _enter(sql, job.tenant, job.id, "release", job.hold_usd, 0.0, now)


# Inline: nobody asks for the row's number, and what returns rows cannot go together with others.
_ADD = insert(ledger).inline()


def day(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).date().isoformat()


def _enter(
    sql: Connection, tenant: str, job_id: str, kind: str, amount_usd: Decimal, compute_s: float, now: float
) -> None:
    row = {"tenant": tenant, "job_id": job_id, "kind": kind, "amount_usd": amount_usd, "compute_s": compute_s}
    sql.execute(_ADD, row | {"created_at": now, "day": day(now)})

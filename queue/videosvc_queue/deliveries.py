"""Webhook messages: written with the job's end, delivered from here until that succeeds or is given up."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, case, func, insert, select, update

from videosvc_queue.database import Database
from videosvc_queue.job import Job, Status
from videosvc_queue.tables import jobs, webhooks


@dataclass(frozen=True, slots=True)
class Webhook:
    """One message to deliver."""

    id: str  # the same at every attempt
    tenant: str
    job_id: str
    url: str
    event: Status  # the end that it tells of
    attempts: int  # with this one
    created_at: float


class Deliveries(Database):
    def due_webhooks(
        self, limit: int = 20, hold_s: float = 60.0, per_tenant: int = 4, busy: Mapping[str, int] | None = None
    ) -> list[Webhook]:
        """Messages nobody is delivering. They are the caller's for `hold_s`, then due again.

        Of a tenant at most `per_tenant` less what it has in `busy`, those due longest; the first ones of all tenants
        before the second ones of any.
        """
        now = self._clock()
        place = func.row_number().over(partition_by=webhooks.c.tenant, order_by=(webhooks.c.due_at, webhooks.c.id))
        taken = case(dict(busy), value=webhooks.c.tenant, else_=0) if busy else 0
        due = select(webhooks.c.id, webhooks.c.due_at, (place + taken).label("place"))
        ranked = due.where(webhooks.c.due_at <= now).subquery()
        fair = select(ranked.c.id).where(ranked.c.place <= per_tenant).order_by(ranked.c.place, ranked.c.due_at)
        with self._read() as sql:
            chosen = sql.scalars(fair.limit(limit)).all()
        if not chosen:
            return []
        still_due = select(webhooks.c.id).where(webhooks.c.id.in_(chosen), webhooks.c.due_at <= now)
        take = (
            update(webhooks)
            .where(webhooks.c.id.in_(still_due.with_for_update(skip_locked=True)))  # PostgreSQL; SQLite has one writer
            .values(attempts=webhooks.c.attempts + 1, due_at=now + hold_s)
            .returning(*(webhooks.c[name] for name in Webhook.__dataclass_fields__))
        )
        with self._write_one() as sql:
            messages = [Webhook(**row._mapping) for row in sql.execute(take)]
        return sorted(messages, key=lambda message: message.created_at)

    def webhook_delivered(self, webhook_id: str) -> None:
        self._set(webhook_id, delivered_at=self._clock(), due_at=None, error=None)

    def webhook_failed(self, webhook_id: str, error: str, retry_at: float | None) -> None:
        """`retry_at`: Unix seconds; None gives it up."""
        self._set(webhook_id, error=error, due_at=retry_at)

    def disable_webhook(self, tenant: str, url: str) -> None:
        """The address wants no more: gives up what waits for it, and clears it from jobs not yet at their end."""
        with self._write() as sql:
            sql.execute(
                update(webhooks).where(webhooks.c.tenant == tenant, webhooks.c.url == url).values(due_at=None)
            )
            sql.execute(
                update(jobs)
                .where(jobs.c.tenant == tenant, jobs.c.status.in_([Status.QUEUED, Status.IN_PROGRESS]))
                .where(jobs.c.webhook_url == url)
                .values(webhook_url=None)
            )

    def _set(self, webhook_id: str, **values: float | str | None) -> None:
        with self._write() as sql:
            sql.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(**values))


def announce(sql: Connection, job: Job, now: float) -> None:
    """Writes the message that tells of a job's end, if somebody wants it."""
    if job.webhook_url is None:
        return
    sql.execute(
        insert(webhooks).values(
            id=f"msg_{secrets.token_urlsafe(18)}", tenant=job.tenant, job_id=job.id, url=job.webhook_url,
            event=job.status, attempts=0, created_at=now, due_at=now,
        )
    )

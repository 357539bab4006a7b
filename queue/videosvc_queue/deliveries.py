"""Webhook messages: written with the job's end, delivered from here until that succeeds or is given up."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from videosvc_queue.database import Database
from videosvc_queue.due import take_due
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
    def due_webhooks(self, limit: int = 20, hold_s: float = 60.0) -> list[Webhook]:
        """Messages nobody is delivering. They are the caller's for `hold_s`, then due again."""
        with self._read() as sql:
            if sql.scalar(select(webhooks.c.id).where(webhooks.c.due_at <= self._clock()).limit(1)) is None:
                return []
        with self._write(durable=False) as sql:
            taken = [row.id for row in take_due(sql, webhooks, limit, hold_s, self._clock())]
            counted = (
                update(webhooks)
                .where(webhooks.c.id.in_(taken))
                .values(attempts=webhooks.c.attempts + 1)
                .returning(*(webhooks.c[name] for name in Webhook.__dataclass_fields__))
            )
            messages = [Webhook(**row._mapping) for row in sql.execute(counted)]
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

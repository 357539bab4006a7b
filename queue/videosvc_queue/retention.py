"""What may go: artifacts of old jobs, and rows nobody asks for any more."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import delete, select, update

from videosvc_queue.database import Database
from videosvc_queue.job import Job, Status
from videosvc_queue.rows import JOB_COLUMNS, to_job
from videosvc_queue.submit import KEY_LIFE_S
from videosvc_queue.tables import idempotency, jobs, quotes, webhooks, workers

QUOTE_EXTRA_S = 24 * 3600
WEBHOOK_LIFE_S = 30 * 24 * 3600
WORKER_LIFE_S = 3600
LEFT_BEHIND_S = 3600  # after a job's end no attempt that was fenced off stores files any more


class Retention(Database):
    def expired_artifacts(self, now: float, limit: int) -> list[Job]:
        """Jobs whose artifacts are there and may go at `now`, the longest ended first.

        Those of a job without a clip as well: an attempt may have stored files before its worker was lost.
        """
        no_clip = jobs.c.expires_at.is_(None) & jobs.c.status.in_([Status.FAILED, Status.CANCELLED])
        expired = (
            select(*JOB_COLUMNS)
            .where(jobs.c.removed_at.is_(None))
            .where((jobs.c.expires_at <= now) | (no_clip & (jobs.c.completed_at <= now - LEFT_BEHIND_S)))
            .order_by(jobs.c.completed_at)
            .limit(limit)
        )
        with self._read() as sql:
            return [to_job(row) for row in sql.execute(expired)]

    def mark_removed(self, job_id: str) -> None:
        """Its artifacts are gone."""
        with self._write() as sql:
            sql.execute(update(jobs).where(jobs.c.id == job_id).values(removed_at=self._clock()))

    def without_job(self, ids: Collection[str]) -> set[str]:
        """Those of `ids` that are no job's, not even a deleted one's."""
        with self._read() as sql:
            return set(ids).difference(sql.scalars(select(jobs.c.id).where(jobs.c.id.in_(ids))))

    def tidy(self) -> None:
        """Deletes old idempotency keys, quotes, webhook messages that wait no more, and workers. Hourly is enough."""
        now = self._clock()
        old_message = webhooks.c.due_at.is_(None) & (webhooks.c.created_at < now - WEBHOOK_LIFE_S)
        with self._write() as sql:
            sql.execute(delete(idempotency).where(idempotency.c.created_at <= now - KEY_LIFE_S))
            sql.execute(delete(quotes).where(quotes.c.expires_at < now - QUOTE_EXTRA_S))
            sql.execute(delete(webhooks).where(old_message))
            sql.execute(delete(workers).where(workers.c.seen_at < now - WORKER_LIFE_S))

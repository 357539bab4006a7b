"""What may go: artifacts and words of old jobs, then their rows, and rows nobody asks for any more."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import delete, select, tuple_, update

from videosvc_queue.database import Database
from videosvc_queue.job import Job, Status
from videosvc_queue.rows import JOB_COLUMNS, to_job
from videosvc_queue.submit import KEY_LIFE_S
from videosvc_queue.tables import idempotency, jobs, ledger, quotes, webhooks, workers

QUOTE_EXTRA_S = 24 * 3600
WEBHOOK_LIFE_S = 30 * 24 * 3600
WORKER_LIFE_S = 3600
LEFT_BEHIND_S = 3600  # after a job's end no attempt that was fenced off stores files any more
BATCH = 500  # jobs whose rows go at once: under SQLite others wait meanwhile


class Retention(Database):
    def expired_artifacts(
        self, now: float, limit: int, no_clip_s: float = LEFT_BEHIND_S, behind: Job | None = None
    ) -> list[Job]:
        """Jobs whose artifacts are there and may go at `now`, the longest ended first; if given, only those behind the
        job `behind`.

        Those of a job without a clip as well, `no_clip_s` after its end, or LEFT_BEHIND_S if it was deleted: an
        attempt may have stored files before its worker was lost.
        """
        no_clip = jobs.c.expires_at.is_(None) & jobs.c.status.in_([Status.FAILED, Status.CANCELLED])
        old = jobs.c.completed_at <= now - max(no_clip_s, LEFT_BEHIND_S)
        deleted = jobs.c.deleted_at.is_not(None) & (jobs.c.completed_at <= now - LEFT_BEHIND_S)
        expired = (
            select(*JOB_COLUMNS)
            .where(jobs.c.removed_at.is_(None))
            .where((jobs.c.expires_at <= now) | (no_clip & (old | deleted)))
            .order_by(jobs.c.completed_at, jobs.c.id)
            .limit(limit)
        )
        if behind is not None:
            expired = expired.where(tuple_(jobs.c.completed_at, jobs.c.id) > (behind.completed_at, behind.id))
        with self._read() as sql:
            return [to_job(row) for row in sql.execute(expired)]

    def mark_removed(self, job_id: str, payload: dict[str, Any], detail: dict[str, Any] | None = None) -> None:
        """Its artifacts are gone, and with them what its tenant wrote to it, and its payload but for `payload`, its
        detail but for `detail` (None leaves it as it is)."""
        left = {"removed_at": self._clock(), "payload": payload, "metadata": {}, "webhook_url": None}
        if detail is not None:
            left["detail"] = detail
        with self._write() as sql:
            sql.execute(update(jobs).where(jobs.c.id == job_id).values(left))

    def without_job(self, ids: Collection[str]) -> set[str]:
        """Those of `ids` that are no job's, not even a deleted one's."""
        with self._read() as sql:
            return set(ids).difference(sql.scalars(select(jobs.c.id).where(jobs.c.id.in_(ids))))

    def tidy(self, history_s: float) -> None:
        """Deletes old idempotency keys, quotes, webhook messages that wait no more, and workers; and jobs whose
        artifacts are gone since `history_s`. Hourly is enough."""
        now = self._clock()
        old_message = webhooks.c.due_at.is_(None) & (webhooks.c.created_at < now - WEBHOOK_LIFE_S)
        with self._write() as sql:
            sql.execute(delete(idempotency).where(idempotency.c.created_at <= now - KEY_LIFE_S))
            sql.execute(delete(quotes).where(quotes.c.expires_at < now - QUOTE_EXTRA_S))
            sql.execute(delete(webhooks).where(old_message))
            sql.execute(delete(workers).where(workers.c.seen_at < now - WORKER_LIFE_S))
        while self._forget_jobs(now - history_s) == BATCH:
            pass

    def _forget_jobs(self, before: float) -> int:
        """Jobs whose artifacts were gone by then. Their charges stay, with what `usage` needs of the job: all that a
        tenant was charged makes its balance."""
        old = select(jobs.c.id, jobs.c.route, jobs.c.tier).where(jobs.c.removed_at <= before).limit(BATCH)
        with self._write(lock="tidy") as sql:
            gone = sql.execute(old.order_by(jobs.c.removed_at)).all()
            ids = [row.id for row in gone]
            for route, tier in {(row.route, row.tier) for row in gone}:
                theirs = [row.id for row in gone if (row.route, row.tier) == (route, tier)]
                sql.execute(update(ledger).where(ledger.c.job_id.in_(theirs)).values(route=route, tier=tier))
            sql.execute(delete(ledger).where(ledger.c.job_id.in_(ids), ledger.c.kind != "charge"))
            for table in (idempotency, webhooks):
                sql.execute(delete(table).where(table.c.job_id.in_(ids)))
            sql.execute(delete(jobs).where(jobs.c.id.in_(ids)))
        return len(ids)

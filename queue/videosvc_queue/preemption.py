"""Batch makes way: its worker parks it at a step boundary for a job that is in more of a hurry."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import takewhile

from sqlalchemy import func, or_, select

from videosvc_queue.claim import BUSY_TENANTS
from videosvc_queue.database import Database
from videosvc_queue.job import Job, Status
from videosvc_queue.tables import jobs, workers
from videosvc_queue.workers import LIVE_S


class Preemption(Database):
    def must_make_way(self, job: Job, routes: Sequence[str]) -> bool:
        """Whether a worker of `routes` is to give this job of its back, and take one of a tier that goes first.

        For each such job that could start, and that no idle worker will take, one job makes way: the last in fair
        order. So workers that ask at the same time do not all stop for the same one.
        """
        waiting = (
            select(jobs.c.route, func.count().label("jobs"))
            .where(jobs.c.status == Status.QUEUED, jobs.c.route.in_(routes), jobs.c.tier_rank < job.tier.priority)
            .where(or_(jobs.c.tenant.not_in(BUSY_TENANTS), jobs.c.tenant == job.tenant))
            .group_by(jobs.c.route)
        )
        live = select(workers.c.route, workers.c.name).where(
            workers.c.route.in_(routes), workers.c.seen_at > self._clock() - LIVE_S
        )
        running = (
            select(jobs.c.id, jobs.c.worker)
            .where(jobs.c.status == Status.IN_PROGRESS)
            .order_by(jobs.c.tier_rank.desc(), jobs.c.virtual_start.desc(), jobs.c.id.desc())
        )
        with self._read() as sql:
            wanted = {row.route: row.jobs for row in sql.execute(waiting)}
            if not wanted:
                return False
            able = defaultdict(set)
            for worker in sql.execute(live):
                able[worker.route].add(worker.name)
            held = list(sql.execute(running))
        busy = {row.worker for row in held}
        sooner = list(takewhile(lambda row: row.id != job.id, held))  # those that make way before this one
        return any(
            count > len(able[route] - busy) + sum(row.worker in able[route] for row in sooner)
            for route, count in wanted.items()
        )

"""Batch makes way: its worker parks it at a step boundary for a job that is in more of a hurry."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from sqlalchemy import func, select

from videosvc_queue.database import Database
from videosvc_queue.job import Job, Status
from videosvc_queue.tables import jobs, tenants, workers
from videosvc_queue.workers import LIVE_S


class Preemption(Database):
    def must_make_way(self, job: Job, routes: Sequence[str]) -> bool:
        """Whether a worker of `routes` is to give this job of its back, and take one of a tier that goes first.

        For each such job that could start, and that no idle worker will take, one worker makes way, with all that it
        runs: the one whose fairest job is the last in fair order. So workers that ask at the same time do not all stop
        for the same one.
        """
        waiting = (
            select(jobs.c.route, jobs.c.tenant, tenants.c.max_concurrent, func.count().label("jobs"))
            .join(tenants, tenants.c.name == jobs.c.tenant)
            .where(jobs.c.status == Status.QUEUED, jobs.c.route.in_(routes), jobs.c.tier_rank < job.tier.priority)
            .group_by(jobs.c.route, jobs.c.tenant, tenants.c.max_concurrent)
        )
        live = select(workers.c.route, workers.c.name).where(
            workers.c.route.in_(routes), workers.c.seen_at > self._clock() - LIVE_S
        )
        running = (
            select(jobs.c.id, jobs.c.worker, jobs.c.tenant)
            .where(jobs.c.status == Status.IN_PROGRESS)
            .order_by(jobs.c.tier_rank.desc(), jobs.c.virtual_start.desc(), jobs.c.id.desc())
        )
        with self._read() as sql:
            queued = sql.execute(waiting).all()
            if not queued:
                return False
            able = defaultdict(set)
            for worker in sql.execute(live):
                able[worker.route].add(worker.name)
            held = sql.execute(running).all()
        used = Counter(row.tenant for row in held)
        used[job.tenant] -= 1  # the place that this job leaves
        wanted: Counter[str] = Counter()
        for row in queued:  # of each tenant no more than it may start
            wanted[row.route] += max(0, min(row.jobs, row.max_concurrent - used[row.tenant]))
        busy = {row.worker for row in held}
        leaves = {row.worker: number for number, row in enumerate(held)}  # the later, the fairer its fairest job
        own = next((row.worker for row in held if row.id == job.id), None)
        sooner = {worker for worker, number in leaves.items() if own is None or number < leaves[own]}
        return any(count > len(able[route] - busy) + len(able[route] & sooner) for route, count in wanted.items())

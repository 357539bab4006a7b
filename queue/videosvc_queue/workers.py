"""Which workers there are, and what they count, by their own word every few seconds: for readiness, ETAs and metrics,
never for leases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import delete, select

from videosvc_queue.database import Database, upsert
from videosvc_queue.job import Status
from videosvc_queue.postgres import together
from videosvc_queue.tables import jobs, workers

LIVE_S = 30.0


@dataclass(frozen=True, slots=True)
class Worker:
    name: str
    routes: tuple[str, ...]
    device: str
    seen_at: float
    figures: Mapping[str, float] = field(default_factory=dict)  # by name, since it started
    refuses: Mapping[str, str] = field(default_factory=dict)  # what it cannot do, and why


class Workers(Database):
    def register_worker(
        self,
        name: str,
        routes: Sequence[str],
        device: str,
        figures: Mapping[str, float] | None = None,
        refuses: Mapping[str, str] | None = None,
    ) -> None:
        """Says that the worker lives, what it takes, what it has counted, and what it cannot do."""
        said = {"name": name, "device": device, "seen_at": self._clock()}
        said |= {"figures": dict(figures or {}), "refuses": dict(refuses or {})}
        rows = [{**said, "route": route} for route in routes]
        with self._write(durable=False) as sql:
            insert = upsert(sql, workers)
            with together(sql):
                sql.execute(delete(workers).where(workers.c.name == name, workers.c.route.not_in(routes)))
                sql.execute(
                    insert.on_conflict_do_update(
                        index_elements=["name", "route"],
                        set_={name: insert.excluded[name] for name in ("device", "seen_at", "figures", "refuses")},
                    ),
                    rows,
                )

    def forget_worker(self, name: str) -> None:
        """It stops."""
        with self._write_one() as sql:
            sql.execute(delete(workers).where(workers.c.name == name))

    def live_workers(self, route: str | None = None, within_s: float = LIVE_S) -> list[Worker]:
        """Those that said so within `within_s`, by name; only those that take `route`, if given."""
        alive = (
            select(workers)
            .where(workers.c.seen_at > self._clock() - within_s)
            .order_by(workers.c.name, workers.c.route)
        )
        found: dict[str, Worker] = {}
        with self._read() as sql:
            for row in sql.execute(alive):
                before = found[row.name].routes if row.name in found else ()
                said = row.figures or {}, row.refuses or {}
                found[row.name] = Worker(row.name, (*before, row.route), row.device, row.seen_at, *said)
        return [worker for worker in found.values() if route is None or route in worker.routes]

    def has_idle_worker(self, route: str) -> bool:
        """Whether a live one that takes this route has no job."""
        busy = select(jobs.c.worker).where(jobs.c.status == Status.IN_PROGRESS, jobs.c.worker.is_not(None))
        idle = select(workers.c.name).where(
            workers.c.route == route, workers.c.seen_at > self._clock() - LIVE_S, workers.c.name.not_in(busy)
        )
        with self._read() as sql:
            return sql.execute(idle.limit(1)).first() is not None

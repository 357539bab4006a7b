"""Which workers there are, by their own word every few seconds: for readiness and for ETAs, never for leases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select

from videosvc_queue.database import Database, upsert
from videosvc_queue.tables import workers

LIVE_S = 30.0


@dataclass(frozen=True, slots=True)
class Worker:
    name: str
    routes: tuple[str, ...]
    device: str
    seen_at: float


class Workers(Database):
    def register_worker(self, name: str, routes: Sequence[str], device: str) -> None:
        """Says that the worker lives, and what it takes."""
        rows = [{"name": name, "route": route, "device": device, "seen_at": self._clock()} for route in routes]
        with self._write(durable=False) as sql:
            sql.execute(delete(workers).where(workers.c.name == name, workers.c.route.not_in(routes)))
            insert = upsert(sql, workers)
            sql.execute(
                insert.on_conflict_do_update(
                    index_elements=["name", "route"],
                    set_={"device": insert.excluded.device, "seen_at": insert.excluded.seen_at},
                ),
                rows,
            )

    def forget_worker(self, name: str) -> None:
        """It stops."""
        with self._write(durable=False) as sql:
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
                found[row.name] = Worker(row.name, (*before, row.route), row.device, row.seen_at)
        return [worker for worker in found.values() if route is None or route in worker.routes]

"""Rows that wait for a time, shared out among processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Table, select, update


def take_due(sql: Connection, table: Table, limit: int, hold_s: float, now: float) -> Sequence[Row[Any]]:
    """Rows of `table` whose `due_at` has come. Nobody else gets them for `hold_s`; after that somebody does."""
    due = (
        select(table.c.id)
        .where(table.c.due_at <= now)
        .order_by(table.c.due_at, table.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)  # PostgreSQL; SQLite has one writer at a time
    )
    return sql.execute(
        update(table).where(table.c.id.in_(due)).values(due_at=now + hold_s).returning(*table.c)
    ).all()

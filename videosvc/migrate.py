"""Brings a service's tables to this version before anything uses them."""

from __future__ import annotations

from videosvc.errors import UserError
from videosvc_queue.errors import LaterTables
from videosvc_queue.store import Store


def migrate(store: Store) -> None:
    """Raises UserError if the database is of a later version."""
    try:
        store.migrate()
    except LaterTables as error:
        raise UserError(f"database_url: {error}", param="database_url") from error

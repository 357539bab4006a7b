"""Run by Alembic. The connection, inside a transaction, comes from `Store.migrate`."""

from __future__ import annotations

from alembic import context

from videosvc_queue.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()

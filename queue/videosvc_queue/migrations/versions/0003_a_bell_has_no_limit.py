"""A doorbell says nothing of how long its job may run: the worker reads that from the job it takes."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_column("outbox", "max_run_s")

"""What usage needs of a job stays with its charge when the job's row goes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("ledger", sa.Column("route", sa.String(128)))
    op.add_column("ledger", sa.Column("tier", sa.String(16)))

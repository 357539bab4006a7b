"""Tenants may pay in advance: credits in the ledger, which belong to no job."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tenants", sa.Column("prepaid", sa.Boolean, nullable=False, server_default=sa.false()))
    with op.batch_alter_table("ledger") as table:  # SQLite changes a column by making the table anew
        table.alter_column("job_id", existing_type=sa.String(64), nullable=True)
        table.add_column(sa.Column("reference", sa.String(64)))
    op.create_index("uq_ledger_tenant_reference", "ledger", ["tenant", "reference"], unique=True)
    op.create_index("ix_ledger_tenant_kind_amount_usd", "ledger", ["tenant", "kind", "amount_usd"])

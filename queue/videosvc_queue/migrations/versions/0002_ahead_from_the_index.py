"""The fair order's index carries predicted_s, so that what is ahead of a job is summed from it alone."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ORDER = ["status", "route", "tier_rank", "virtual_start", "created_at", "id"]


def upgrade() -> None:
    op.drop_index("ix_jobs_fair_order", "jobs")
    op.create_index("ix_jobs_fair_order", "jobs", [*ORDER, "predicted_s"])

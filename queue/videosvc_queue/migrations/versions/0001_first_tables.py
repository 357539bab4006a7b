"""The first tables."""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, BigInteger, Boolean, Column, Double, Integer, String, Text

revision = "0001"
down_revision = None

serial = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "jobs",
        Column("id", String(64), primary_key=True),
        Column("tenant", String(64), nullable=False),
        Column("tier", String(16), nullable=False),
        Column("route", String(128), nullable=False),
        Column("status", String(16), nullable=False),
        Column("payload", JSON, nullable=False),
        Column("detail", JSON, nullable=False),
        Column("result", JSON),
        Column("error_code", String(64)),
        Column("error_message", Text),
        Column("predicted_s", Double, nullable=False),
        Column("hold_usd", BigInteger, nullable=False),
        Column("max_run_s", Double, nullable=False),
        Column("progress", Integer, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("fence", Integer, nullable=False),
        Column("wasted_s", Double, nullable=False),
        Column("created_at", Double, nullable=False),
        Column("started_at", Double),
        Column("completed_at", Double),
        Column("expires_at", Double),
        Column("cancel_requested", Boolean, nullable=False),
        Column("worker", String(128)),
        Column("webhook_url", Text),
        Column("metadata", JSON, nullable=False),
        Column("removed_at", Double),
        Column("tier_rank", Integer, nullable=False),
        Column("virtual_start", Double, nullable=False),
        Column("virtual_finish", Double, nullable=False),
        Column("beats", Integer, nullable=False),
        Column("losses", Integer, nullable=False),
        Column("deleted_at", Double),
    )
    op.create_index(
        "ix_jobs_fair_order", "jobs", ["status", "route", "tier_rank", "virtual_start", "created_at", "id"]
    )
    op.create_index("ix_jobs_tenant_status", "jobs", ["tenant", "status"])
    op.create_index("ix_jobs_tenant_created_at_id", "jobs", ["tenant", "created_at", "id"])
    op.create_index("ix_jobs_removed_at_expires_at", "jobs", ["removed_at", "expires_at"])
    op.create_table(
        "lanes",
        Column("route", String(128), primary_key=True),
        Column("tier", String(16), primary_key=True),
        Column("virtual_time", Double, nullable=False),
    )
    op.create_table(
        "flows",
        Column("tenant", String(64), primary_key=True),
        Column("route", String(128), primary_key=True),
        Column("tier", String(16), primary_key=True),
        Column("finish_tag", Double, nullable=False),
    )
    op.create_table(
        "ledger",
        Column("id", serial, primary_key=True),
        Column("tenant", String(64), nullable=False),
        Column("job_id", String(64), nullable=False),
        Column("kind", String(16), nullable=False),
        Column("amount_usd", BigInteger, nullable=False),
        Column("compute_s", Double, nullable=False),
        Column("created_at", Double, nullable=False),
        Column("day", String(10), nullable=False),
    )
    op.create_index("uq_ledger_job_id_kind", "ledger", ["job_id", "kind"], unique=True)
    op.create_index("ix_ledger_tenant_day", "ledger", ["tenant", "day"])
    op.create_table(
        "idempotency",
        Column("tenant", String(64), primary_key=True),
        Column("key", String(255), primary_key=True),
        Column("body_hash", String(128), nullable=False),
        Column("job_id", String(64), nullable=False),
        Column("created_at", Double, nullable=False),
    )
    op.create_index("ix_idempotency_created_at", "idempotency", ["created_at"])
    op.create_table(
        "outbox",
        Column("id", serial, primary_key=True),
        Column("job_id", String(64), nullable=False),
        Column("route", String(128), nullable=False),
        Column("tier", String(16), nullable=False),
        Column("max_run_s", Double, nullable=False),
        Column("due_at", Double, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outbox_due_at", "outbox", ["due_at"])
    op.create_table(
        "webhooks",
        Column("id", String(64), primary_key=True),
        Column("tenant", String(64), nullable=False),
        Column("job_id", String(64), nullable=False),
        Column("url", Text, nullable=False),
        Column("event", String(16), nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("created_at", Double, nullable=False),
        Column("due_at", Double),
        Column("delivered_at", Double),
        Column("error", Text),
    )
    op.create_index("uq_webhooks_job_id_event", "webhooks", ["job_id", "event"], unique=True)
    op.create_index("ix_webhooks_due_at", "webhooks", ["due_at"])
    op.create_table(
        "tenants",
        Column("name", String(64), primary_key=True),
        Column("max_concurrent", Integer, nullable=False),
        Column("max_queued", Integer, nullable=False),
        Column("per_minute", Integer, nullable=False),
        Column("usd_per_day", BigInteger),
        Column("weight", Double, nullable=False),
        Column("webhook_secret", String(64), nullable=False),
        Column("created_at", Double, nullable=False),
    )
    op.create_table(
        "api_keys",
        Column("id", String(64), primary_key=True),
        Column("tenant", String(64), nullable=False),
        Column("name", String(128), nullable=False),
        Column("prefix", String(16), nullable=False),
        Column("digest", String(64), nullable=False),
        Column("created_at", Double, nullable=False),
        Column("revoked_at", Double),
    )
    op.create_index("uq_api_keys_digest", "api_keys", ["digest"], unique=True)
    op.create_table(
        "settings",
        Column("name", String(64), primary_key=True),
        Column("value", Text, nullable=False),
    )
    op.create_table(
        "workers",
        Column("name", String(128), primary_key=True),
        Column("route", String(128), primary_key=True),
        Column("device", String(128), nullable=False),
        Column("seen_at", Double, nullable=False),
    )
    op.create_index("ix_workers_seen_at", "workers", ["seen_at"])
    op.create_table(
        "quotes",
        Column("id", String(64), primary_key=True),
        Column("tenant", String(64), nullable=False),
        Column("body", JSON, nullable=False),
        Column("expires_at", Double, nullable=False),
    )
    op.create_index("ix_quotes_expires_at", "quotes", ["expires_at"])

"""The tables. Times are Unix seconds; a change here wants a migration (tests/queue/test_migrations.py compares)."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    Enum,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    false,
)

from videosvc_queue.job import Status
from videosvc_queue.tiers import Tier
from videosvc_queue.usd import Usd

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


_serial = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up INTEGER only


def _words(kind: type[StrEnum]) -> Enum:
    """The values as text: a new one needs no migration."""
    return Enum(kind, native_enum=False, length=16, values_callable=lambda words: [word.value for word in words])


jobs = Table(
    "jobs",
    metadata,
    # Job's fields, in its order
    Column("id", String(64), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("tier", _words(Tier), nullable=False),
    Column("route", String(128), nullable=False),
    Column("status", _words(Status), nullable=False),
    Column("payload", JSON, nullable=False),
    Column("detail", JSON, nullable=False),
    Column("result", JSON(none_as_null=True)),
    Column("error_code", String(64)),
    Column("error_message", Text),
    Column("predicted_s", Double, nullable=False),
    Column("hold_usd", Usd, nullable=False),
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
    # Known to the queue alone
    Column("tier_rank", Integer, nullable=False),  # Tier.priority, to sort by
    Column("virtual_start", Double, nullable=False),  # fair order, see fair_share.py
    Column("virtual_finish", Double, nullable=False),
    Column("beats", Integer, nullable=False),  # heartbeats, counted
    Column("losses", Integer, nullable=False),  # attempts that came to nothing: worker lost, or it raised
    Column("deleted_at", Double),  # hidden from its tenant since
    # claim; and `ahead`, which sums predicted_s of what comes first without a look at the rows, large as they are
    Index(
        "ix_jobs_fair_order", "status", "route", "tier_rank", "virtual_start", "created_at", "id", "predicted_s"
    ),
    Index(None, "tenant", "status"),  # limits
    Index(None, "tenant", "created_at", "id"),  # list, per_minute
    Index(None, "removed_at", "expires_at"),  # retention
)

lanes = Table(  # how far each lane's fair order has got
    "lanes",
    metadata,
    Column("route", String(128), primary_key=True),
    Column("tier", _words(Tier), primary_key=True),
    Column("virtual_time", Double, nullable=False),
)

flows = Table(  # where a tenant's next job in a lane would start, was the lane not further yet
    "flows",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("route", String(128), primary_key=True),
    Column("tier", _words(Tier), primary_key=True),
    Column("finish_tag", Double, nullable=False),
)

ledger = Table(  # amounts are added, never changed; what undid itself goes with its job's row (retention.py)
    "ledger",
    metadata,
    Column("id", _serial, primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("job_id", String(64)),  # None: a credit
    Column("kind", String(16), nullable=False),  # hold, charge, release; credit
    Column("amount_usd", Usd, nullable=False),
    Column("compute_s", Double, nullable=False),  # of a charge: device-seconds used
    Column("created_at", Double, nullable=False),
    Column("day", String(10), nullable=False),  # of created_at, in UTC: 2026-11-21
    Column("reference", String(64)),  # of a credit: what was paid, in the tenant's or the bank's words
    Column("route", String(128)),  # of a charge whose job's row is gone, and so the tier
    Column("tier", _words(Tier)),
    Index("uq_ledger_job_id_kind", "job_id", "kind", unique=True),
    Index("uq_ledger_tenant_reference", "tenant", "reference", unique=True),
    Index(None, "tenant", "day"),
    Index(None, "tenant", "kind", "amount_usd"),  # balances, summed without a look at the rows
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("body_hash", String(128), nullable=False),
    Column("job_id", String(64), nullable=False),
    Column("created_at", Double, nullable=False, index=True),
)

outbox = Table(  # doorbells not yet rung
    "outbox",
    metadata,
    Column("id", _serial, primary_key=True),
    Column("job_id", String(64), nullable=False),
    Column("route", String(128), nullable=False),
    Column("tier", _words(Tier), nullable=False),
    Column("due_at", Double, nullable=False, index=True),
    sqlite_autoincrement=True,  # a deleted row's number is not given again: its late publisher would delete the new one
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("job_id", String(64), nullable=False),
    Column("url", Text, nullable=False),
    Column("event", _words(Status), nullable=False),  # the end that it tells of
    Column("attempts", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("due_at", Double, index=True),  # None: delivered, or given up
    Column("delivered_at", Double),
    Column("error", Text),  # of the last attempt
    Index("uq_webhooks_job_id_event", "job_id", "event", unique=True),
)

tenants = Table(
    "tenants",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("max_concurrent", Integer, nullable=False),
    Column("max_queued", Integer, nullable=False),
    Column("per_minute", Integer, nullable=False),
    Column("usd_per_day", Usd),
    Column("weight", Double, nullable=False),
    Column("prepaid", Boolean, nullable=False, server_default=false()),
    Column("webhook_secret", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("name", String(128), nullable=False),
    Column("prefix", String(16), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
    Index("uq_api_keys_digest", "digest", unique=True),
)

settings = Table(  # values made once, the same for every process
    "settings",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("route", String(128), primary_key=True),
    Column("device", String(128), nullable=False),
    Column("seen_at", Double, nullable=False, index=True),
    Column("figures", JSON),  # what it counts, by name, since it started
    Column("refuses", JSON),  # what it cannot do, in its handler's words, and why
)

quotes = Table(
    "quotes",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("body", JSON, nullable=False),
    Column("expires_at", Double, nullable=False, index=True),
)

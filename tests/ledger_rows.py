"""The ledger as an auditor reads it: the store itself shows sums only."""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import NullPool, create_engine, select

from videosvc_queue.tables import ledger


def ledger_rows(database_url: str) -> dict[str, dict[str, Decimal]]:
    """USD by job and kind; credits belong to no job."""
    found: dict[str, dict[str, Decimal]] = {}
    with create_engine(database_url, poolclass=NullPool).connect() as sql:
        entries = select(ledger.c.job_id, ledger.c.kind, ledger.c.amount_usd).where(ledger.c.job_id.is_not(None))
        for row in sql.execute(entries):
            assert row.kind not in found.setdefault(row.job_id, {})
            found[row.job_id][row.kind] = row.amount_usd
    return found

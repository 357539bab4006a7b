"""Quotes, kept as they were given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select

from videosvc_queue.database import Database
from videosvc_queue.tables import quotes


@dataclass(frozen=True, slots=True)
class StoredQuote:
    body: dict[str, Any]
    expires_at: float


class Quotes(Database):
    def save_quote(self, quote_id: str, tenant: str, body: Mapping[str, Any], expires_at: float) -> None:
        """`body`: JSON."""
        row = {"id": quote_id, "tenant": tenant, "body": dict(body), "expires_at": expires_at}
        with self._write_one() as sql:
            sql.execute(insert(quotes), row)

    def forget_quote(self, quote_id: str, tenant: str) -> None:
        """If the tenant has it."""
        with self._write_one() as sql:
            sql.execute(delete(quotes).where(quotes.c.id == quote_id, quotes.c.tenant == tenant))

    def get_quote(self, quote_id: str, tenant: str) -> StoredQuote | None:
        """Also one that has expired, for a day more. None: the tenant has no such quote."""
        wanted = select(quotes.c.body, quotes.c.expires_at).where(quotes.c.id == quote_id, quotes.c.tenant == tenant)
        with self._read() as sql:
            row = sql.execute(wanted).one_or_none()
            return None if row is None else StoredQuote(row.body, row.expires_at)

"""Tenants and their limits."""

from __future__ import annotations

import base64
import dataclasses
import math
import secrets
from dataclasses import dataclass, field
from decimal import Decimal

from sqlalchemy import Connection, bindparam, select, update

from videosvc_queue.database import Database, upsert
from videosvc_queue.tables import tenants

NAME_LENGTH = 64  # the columns'; SQLite would take more


@dataclass(frozen=True, slots=True)
class TenantLimits:
    max_concurrent: int = 4  # jobs in progress; more wait
    max_queued: int = 100  # jobs waiting; more are refused
    per_minute: int = 600  # jobs submitted; more are refused
    usd_per_day: Decimal | None = None  # charged and held; None: no limit
    weight: float = 1.0  # share of the workers against other tenants'
    prepaid: bool = False  # a job's price must fit into what was paid in advance

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if not 0 < self.weight < math.inf:
            raise ValueError(f"weight: {self.weight} must be more than 0")
        if self.usd_per_day is not None and not (
            self.usd_per_day.is_finite() and 0 <= self.usd_per_day < 10**9  # a NaN cannot be compared
        ):
            raise ValueError(f"usd_per_day: {self.usd_per_day} must be at least 0, and less than 1000000000")
        if self.max_concurrent < 1:
            raise ValueError(f"max_concurrent: {self.max_concurrent} must be at least 1")
        if min(self.max_queued, self.per_minute) < 0:
            raise ValueError("max_queued: it and per_minute must be at least 0")


@dataclass(frozen=True, slots=True)
class Tenant:
    name: str
    limits: TenantLimits
    webhook_secret: str = field(repr=False)  # Standard Webhooks: whsec_ and base64
    created_at: float


class Tenants(Database):
    def upsert_tenant(self, name: str, limits: TenantLimits) -> Tenant:
        """Makes a tenant, or gives it other limits; claims follow them at once. Raises ValueError for a name that is
        too long."""
        with self._write() as sql:
            find_or_add(sql, name, limits, self._clock())
            sql.execute(update(tenants).where(tenants.c.name == name).values(dataclasses.asdict(limits)))
            return find_or_add(sql, name, limits, self._clock())

    def tenant(self, name: str) -> Tenant | None:
        with self._read() as sql:
            return find(sql, name)


_TENANT = select(tenants).where(tenants.c.name == bindparam("name"))


def find(sql: Connection, name: str) -> Tenant | None:
    row = sql.execute(_TENANT, {"name": name}).one_or_none()
    if row is None:
        return None
    limits = TenantLimits(**{part.name: row._mapping[part.name] for part in dataclasses.fields(TenantLimits)})
    return Tenant(row.name, limits, row.webhook_secret, row.created_at)


def find_or_add(sql: Connection, name: str, limits: TenantLimits, now: float) -> Tenant:
    """`limits` are for a new one. Raises ValueError for a name that is too long."""
    found = find(sql, name)
    if found is not None:
        return found
    if len(name) > NAME_LENGTH:
        raise ValueError(f"tenant: {len(name)} characters; at most {NAME_LENGTH} are allowed")
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
    row = {"name": name, "webhook_secret": secret, "created_at": now} | dataclasses.asdict(limits)
    sql.execute(upsert(sql, tenants).on_conflict_do_nothing(), row)
    return Tenant(name, limits, secret, now)

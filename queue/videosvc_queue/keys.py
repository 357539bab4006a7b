"""API keys. Only an HMAC of a secret is kept, under a pepper that is made once."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from functools import cached_property

from sqlalchemy import insert, select, update

from videosvc_queue.database import Database, upsert
from videosvc_queue.tables import api_keys, settings
from videosvc_queue.tenants import Tenant, TenantLimits, find, find_or_add

PREFIX_LENGTH = 8


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key as it is shown."""

    id: str
    tenant: str
    name: str
    prefix: str  # how the secret begins, to tell keys apart
    created_at: float
    revoked_at: float | None


class Keys(Database):
    def create_key(self, tenant: str, name: str) -> tuple[str, KeyRow]:
        """The secret, which is not kept, and the key. A tenant not known yet is added with default limits.

        Raises ValueError for a tenant's name that is too long.
        """
        now = self._clock()
        secret = f"vsk_{secrets.token_urlsafe(32)}"
        row = KeyRow(f"key_{secrets.token_hex(8)}", tenant, name, secret[:PREFIX_LENGTH], now, None)
        digest = self._digest(secret)
        with self._write() as sql:
            find_or_add(sql, tenant, TenantLimits(), now)
            sql.execute(
                insert(api_keys).values(
                    id=row.id, tenant=tenant, name=name, prefix=row.prefix, digest=digest, created_at=now
                )
            )
        return secret, row

    def find_key(self, secret: str) -> Tenant | None:
        """Whose key that is. None: unknown or revoked."""
        digest = self._digest(secret)
        wanted = select(api_keys.c.tenant, api_keys.c.digest).where(
            api_keys.c.digest == digest, api_keys.c.revoked_at.is_(None)
        )
        with self._read() as sql:
            row = sql.execute(wanted).one_or_none()
            if row is None or not hmac.compare_digest(row.digest, digest):
                return None
            return find(sql, row.tenant)

    def list_keys(self, tenant: str | None = None) -> list[KeyRow]:
        """Revoked ones too, oldest first."""
        wanted = select(*(api_keys.c[name] for name in KeyRow.__dataclass_fields__)).order_by(
            api_keys.c.created_at, api_keys.c.id
        )
        if tenant is not None:
            wanted = wanted.where(api_keys.c.tenant == tenant)
        with self._read() as sql:
            return [KeyRow(**row._mapping) for row in sql.execute(wanted)]

    def revoke_key(self, key_id: str) -> bool:
        """From now on. False: there is no such key in use."""
        in_use = (api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
        with self._write() as sql:
            return sql.execute(update(api_keys).where(*in_use).values(revoked_at=self._clock())).rowcount == 1

    def has_keys(self) -> bool:
        """Whether any was ever made. Revoked ones count: revoking the last key must not let everybody in."""
        with self._read() as sql:
            return sql.scalar(select(api_keys.c.id).limit(1)) is not None

    def _digest(self, secret: str) -> str:
        return hmac.digest(self._pepper, secret.encode(), hashlib.sha256).hex()

    @cached_property
    def _pepper(self) -> bytes:
        with self._write() as sql:
            made = {"name": "key_pepper", "value": secrets.token_hex(32)}
            sql.execute(upsert(sql, settings).on_conflict_do_nothing(), made)
            return bytes.fromhex(sql.scalars(select(settings.c.value).where(settings.c.name == "key_pepper")).one())

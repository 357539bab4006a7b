"""Tenants who pay in advance: their credits, and what is left of them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import Connection, case, func, insert, select, update

from videosvc_queue.database import Database
from videosvc_queue.ledger import day, open_holds
from videosvc_queue.tables import ledger, tenants
from videosvc_queue.tenants import find
from videosvc_queue.usd import PLACES

MOST_USD = 10**9  # a credit is less
REFERENCE_LENGTH = 64  # the column's; SQLite would take more


@dataclass(frozen=True, slots=True)
class Balance:
    usd: Decimal  # all credits less all charges
    held_usd: Decimal  # for jobs not yet at their end

    @property
    def free_usd(self) -> Decimal:
        """What a new job may cost."""
        return self.usd - self.held_usd


class Balances(Database):
    def credit(self, tenant: str, amount_usd: Decimal, reference: str) -> bool:
        """Books a payment, which makes the tenant a prepaid one. False: it was booked before, and nothing changes.

        `reference`: names the payment among the tenant's, such as its invoice. Raises LookupError for a tenant that is
        not known, ValueError for an amount or a reference that is not allowed, or one that was booked with another
        amount.
        """
        if not (amount_usd.is_finite() and 0 < amount_usd < MOST_USD and amount_usd == round(amount_usd, PLACES)):
            raise ValueError(f"usd: {amount_usd} must be more than 0, less than {MOST_USD}, with at most 9 decimals")
        if not reference.strip() or len(reference) > REFERENCE_LENGTH:
            raise ValueError(f"reference: 1 to {REFERENCE_LENGTH} characters are allowed")
        now = self._clock()
        with self._write(lock=f"tenant {tenant}") as sql:
            if find(sql, tenant) is None:
                raise LookupError(tenant)
            mine = (ledger.c.tenant == tenant, ledger.c.reference == reference)
            before: Decimal | None = sql.scalar(select(ledger.c.amount_usd).where(*mine))
            if before is not None:
                if before != amount_usd:
                    raise ValueError(f"reference: {reference!r} was booked before, with {before.normalize():f} USD")
                return False
            row = {"tenant": tenant, "kind": "credit", "reference": reference, "amount_usd": amount_usd}
            sql.execute(insert(ledger), row | {"compute_s": 0.0, "created_at": now, "day": day(now)})
            sql.execute(update(tenants).where(tenants.c.name == tenant).values(prepaid=True))
            return True

    def balance(self, tenant: str) -> Balance | None:
        """None: the tenant does not pay in advance, or is not known."""
        with self._read() as sql:
            known = find(sql, tenant)
            return balance_of(sql, tenant) if known is not None and known.limits.prepaid else None


def balance_of(sql: Connection, tenant: str) -> Balance:
    signed = case((ledger.c.kind == "credit", ledger.c.amount_usd), else_=-ledger.c.amount_usd)
    total = select(func.coalesce(func.sum(signed), Decimal(0))).where(
        ledger.c.tenant == tenant, ledger.c.kind.in_(["credit", "charge"])
    )
    # One statement: a job that ends between two would be in both sums, or in neither, on PostgreSQL.
    return Balance(*sql.execute(select(total.scalar_subquery(), open_holds(tenant).scalar_subquery())).one())

"""What a tenant has spent, and may spend."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response

from videosvc.api.errors import invalid
from videosvc.api.schemas import ERRORS, Me, Usage
from videosvc.api.services import Here
from videosvc.api.videos import Tenant

router = APIRouter(prefix="/v1", tags=["usage"], responses=ERRORS)

DAYS = 30  # told if the caller names none


@router.get("/usage", response_model=None, responses={200: {"model": Usage}})
def usage(
    tenant: Tenant,
    services: Here,
    from_: Annotated[date | None, Query(alias="from", description="first day, UTC", examples=["2026-11-01"])] = None,
    to: Annotated[date | None, Query(description="last day, UTC", examples=["2026-11-30"])] = None,
) -> Response:
    """Spend and compute by day, model and tier, of jobs that ended on these days; of the last 30 by default."""
    last = to or datetime.now(UTC).date()
    first = from_ or date.fromordinal(max(1, last.toordinal() - DAYS + 1))
    if first > last:
        raise invalid("from", f"{first} must not be after to, {last}")
    rows = services.store.usage(tenant.tenant, _midnight(first), _midnight(last) + 86400)
    days = [
        {
            "day": row.day,
            "model": row.route,
            "tier": row.tier,
            "videos": row.jobs,
            "compute_seconds": round(row.compute_s, 4),
            "charged_usd": float(row.charged_usd),
        }
        for row in rows
    ]
    total = {
        "videos": sum(row.jobs for row in rows),
        "compute_seconds": round(sum(row.compute_s for row in rows), 4),
        "charged_usd": float(sum((row.charged_usd for row in rows), Decimal(0))),
    }
    return JSONResponse({"object": "usage", "data": days, "total": total})


@router.get("/me", response_model=None, responses={200: {"model": Me}})
def me(tenant: Tenant, services: Here) -> Response:
    """Whose key this is, what it has spent and paid in advance, its limits, and what webhooks are signed with."""
    spent, limits = services.store.spent_today(tenant.tenant), tenant.limits
    balance = services.store.balance(tenant.tenant)
    known = services.store.tenant(tenant.tenant)
    assert known is not None, "as whoever calls is one"
    answer: dict[str, Any] = {
        "object": "tenant",
        "tenant": tenant.tenant,
        "spent_today_usd": float(spent),
        "balance_usd": None if balance is None else float(balance.usd),
        "available_usd": None if balance is None else float(balance.free_usd),
        "limits": {
            "max_concurrent": limits.max_concurrent,
            "max_queued": limits.max_queued,
            "per_minute": limits.per_minute,
            "usd_per_day": None if limits.usd_per_day is None else float(limits.usd_per_day),
            "weight": limits.weight,
        },
        "webhook_secret": known.webhook_secret,
    }
    return JSONResponse(answer)


def _midnight(day: date) -> float:
    """Unix seconds."""
    return datetime.combine(day, time(), UTC).timestamp()

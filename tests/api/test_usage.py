from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from api_service import BALLOON, Api
from videosvc_queue.tenants import TenantLimits


def test_spend_by_day_model_and_tier(api: Api, tmp_path: Path) -> None:
    today = datetime.now(UTC).date()
    for tier in ("interactive", "interactive", "batch"):
        api.create(tier=tier)
        api.complete(tmp_path)
    with api.client() as client:
        usage = client.get("/v1/usage", params={"from": str(today - timedelta(1)), "to": str(today)}).json()
        before = client.get("/v1/usage", params={"to": str(today - timedelta(2))}).json()
    interactive = {"model": "toyworld", "tier": "interactive", "videos": 2, "compute_seconds": 2.0}
    row = next(row for row in usage["data"] if row["tier"] == "interactive")
    assert row | interactive == row and row["charged_usd"] == pytest.approx(2e-5)
    assert row["day"] in (str(today), str(today + timedelta(1)))
    assert usage["total"]["videos"] == 3 and usage["total"]["charged_usd"] == pytest.approx(3e-5)
    assert before["data"] == [] and before["total"]["videos"] == 0


def test_who_am_i(api: Api) -> None:
    api.services.store.upsert_tenant("default", TenantLimits(usd_per_day=Decimal(1), max_queued=7))
    price = api.create()["quote"]["price_usd"]
    with api.client() as client:
        me = client.get("/v1/me").json()
    assert me["tenant"] == "default" and me["limits"]["max_queued"] == 7 and me["limits"]["usd_per_day"] == 1.0
    assert me["spent_today_usd"] == price and me["balance_usd"] is me["available_usd"] is None


def test_open_modes_tenant_can_check_webhooks_before_its_first_job(api: Api) -> None:
    with api.client() as client:
        secret = client.get("/v1/me").json()["webhook_secret"]
    assert secret.startswith("whsec_")
    api.create()
    with api.client() as client:
        assert client.get("/v1/me").json()["webhook_secret"] == secret


def test_who_pays_in_advance_spends_no_more(api: Api, tmp_path: Path) -> None:
    store = api.services.store
    price = Decimal(str(api.create()["quote"]["price_usd"]))
    charged = Decimal(str(api.services.store.get(api.complete(tmp_path)).result["receipt"]["charged_usd"]))  # type: ignore
    store.credit("default", 2 * price, "INVOICE-7")
    assert charged < price
    with api.client() as client:
        me = client.get("/v1/me").json()
        assert me["balance_usd"] == me["available_usd"] == float(2 * price - charged)
        assert client.post("/v1/videos", json=BALLOON).status_code == 200
        refused = client.post("/v1/videos", json=BALLOON)
        me = client.get("/v1/me").json()
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "quota_exceeded")
    message = refused.json()["error"]["message"]
    assert f"{price:f} USD are more than" in message and f"the balance of {2 * price - charged:f} USD" in message
    assert "Retry-After" in refused.headers
    assert me["balance_usd"] == float(2 * price - charged) and me["available_usd"] == float(price - charged)


@pytest.mark.parametrize(
    ("query", "param"),
    [("from=yesterday", "from"), ("to=2026-13-01", "to"), ("from=2026-11-02&to=2026-11-01", "from")],
)
def test_a_bad_day(query: str, param: str, shared_api: Api) -> None:
    with shared_api.client() as client:
        answer = client.get(f"/v1/usage?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("query", ["from=0001-01-01", "to=0001-01-01", "from=9999-12-31&to=9999-12-31"])
def test_the_first_and_last_days_there_are(query: str, shared_api: Api) -> None:
    with shared_api.client() as client:
        assert client.get(f"/v1/usage?{query}").json()["data"] == []

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from videosvc_queue.job import NewJob
from videosvc_queue.store import Store
from videosvc_queue.tenants import TenantLimits


def test_limits_change_and_the_webhook_secret_stays(store: Store) -> None:
    assert store.tenant("ann") is None
    limits = TenantLimits(max_concurrent=2, usd_per_day=Decimal("0.123456789"), weight=2.5)
    first = store.upsert_tenant("ann", limits)
    assert store.tenant("ann") == first
    assert first.limits == limits
    assert first.webhook_secret.startswith("whsec_")
    assert first.webhook_secret not in repr(first)
    second = store.upsert_tenant("ann", TenantLimits())
    assert second.limits == TenantLimits()
    assert second.webhook_secret == first.webhook_secret


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weight": 0.0}, "weight: 0.0 must be more than 0"),
        ({"max_concurrent": 0}, "max_concurrent: 0 must be at least 1"),
        ({"usd_per_day": Decimal("NaN")}, "usd_per_day: NaN must be at least 0"),
        ({"usd_per_day": Decimal("Infinity")}, "usd_per_day: Infinity must be at least 0"),
        ({"per_minute": -1}, "max_queued: it and per_minute must be at least 0"),
    ],
)
def test_limits_that_make_no_sense_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TenantLimits(**fields)


def test_a_tenants_name_has_64_characters_at_most(store: Store) -> None:
    store.create_key("a" * 64, "")
    with pytest.raises(ValueError, match="tenant: 65 characters; at most 64 are allowed"):
        store.create_key("a" * 65, "")
    with pytest.raises(ValueError, match="tenant: 65"):
        store.upsert_tenant("a" * 65, TenantLimits())
    assert [key.tenant for key in store.list_keys()] == ["a" * 64]


def test_a_tenant_known_from_a_job_keeps_the_limits_it_came_with(store: Store, new_job: Callable[..., NewJob]) -> None:
    store.submit(new_job(tenant="default"), TenantLimits(max_concurrent=1))
    tenant = store.tenant("default")
    assert tenant is not None
    assert tenant.limits.max_concurrent == 1


def test_a_key_names_its_tenant_until_it_is_revoked(store: Store) -> None:
    assert not store.has_keys()
    secret, key = store.create_key("ann", "laptop")
    assert (key.tenant, key.name) == ("ann", "laptop")
    assert secret.startswith(key.prefix)
    found = store.find_key(secret)
    assert found is not None
    assert found.name == "ann"
    assert store.find_key(secret + "x") is None
    assert store.find_key("") is None
    assert store.has_keys()
    assert store.revoke_key(key.id)
    assert store.find_key(secret) is None
    assert not store.revoke_key(key.id)
    assert store.has_keys(), "revoked ones count"
    (listed,) = store.list_keys("ann")
    assert listed.revoked_at is not None
    assert store.list_keys("bob") == []


def test_every_process_knows_a_key(store: Store, database_url: str) -> None:
    secret, _ = store.create_key("ann", "laptop")
    with Store(database_url) as other:
        found = other.find_key(secret)
    assert found is not None
    assert found.name == "ann"


def test_no_secret_is_kept(store: Store, database_url: str) -> None:
    secret, _ = store.create_key("ann", "laptop")
    engine = create_engine(database_url)
    with engine.connect() as sql:
        kept = str(sql.execute(text("SELECT * FROM api_keys")).all())
    engine.dispose()
    assert secret not in kept
    assert secret.removeprefix("vsk_")[8:] not in kept

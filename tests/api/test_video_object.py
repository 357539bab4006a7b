from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from api_service import Api
from videosvc_queue.job import NewJob
from videosvc_queue.tenants import TenantLimits


def of_later_version(quote: dict[str, Any]) -> dict[str, Any]:
    return {"quote": {**quote, "plan": {**quote["plan"], "not_yet_thought_of": 1}}}


@pytest.mark.parametrize("done", [False, True])
def test_a_video_that_a_later_version_planned_hides_no_other(api: Api, tmp_path: Path, done: bool) -> None:
    plain = api.create()
    job = api.services.store.get(plain["id"])
    assert job is not None
    later = NewJob(
        id="video_" + "x" * 24, tenant=job.tenant, tier=job.tier, route=job.route,
        payload=of_later_version(job.payload["quote"]), predicted_s=1.0, hold_usd=job.hold_usd, max_run_s=60.0,
    )  # fmt: skip
    api.services.store.submit(later, TenantLimits())
    if done:
        assert {api.complete(tmp_path), api.complete(tmp_path)} == {plain["id"], later.id}
    with api.client() as client:
        listed = {video["id"]: video for video in client.get("/v1/videos").json()["data"]}
        odd = client.get(f"/v1/videos/{later.id}").json()
        fetched = client.get(f"/v1/videos/{later.id}/content").status_code
    assert set(listed) == {plain["id"], later.id}
    assert listed[plain["id"]]["plan"] == plain["plan"]
    assert odd.keys() == plain.keys()
    assert (odd["plan"], odd["quote"]) == ({}, {})
    for field in ("model", "prompt", "seconds", "seed", "preset", "tier"):
        assert odd[field] == plain[field]
    assert odd["status"] == ("completed" if done else "queued")
    assert (odd["receipt"] is not None) == done
    assert fetched == (200 if done else 409)

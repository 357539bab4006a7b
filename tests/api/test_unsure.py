from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from api_service import BALLOON, Api
from videosvc.api import videos
from videosvc_queue.job import NewJob
from videosvc_queue.store import Store
from videosvc_queue.tenants import TenantLimits

DOWN = OperationalError("SELECT 1", {}, Exception("the connection is lost"))


def test_a_create_that_failed_after_its_commit_is_found_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise DOWN

    with api.client() as client:
        with monkeypatch.context() as patch:
            patch.setattr(videos, "video_object", broken)
            failed = client.post("/v1/videos", json=BALLOON)
        assert (failed.status_code, failed.json()["error"]["code"]) == (503, "unavailable")
        assert "Retry-After" in failed.headers and "connection" not in failed.text, "no innards"
        again = client.post("/v1/videos", json=BALLOON)
        assert again.headers["Idempotent-Replayed"] == "true"
        third = client.post("/v1/videos", json=BALLOON)
        listed = client.get("/v1/videos").json()["data"]
    assert [video["id"] for video in listed] == [third.json()["id"], again.json()["id"]]


def test_a_create_that_failed_before_is_made(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Store, job: NewJob, limits: TenantLimits) -> Any:
        raise DOWN

    with api.client() as client:
        with monkeypatch.context() as patch:
            patch.setattr(Store, "submit", broken)
            assert client.post("/v1/videos", json=BALLOON).status_code == 503
        assert client.post("/v1/videos", json=BALLOON).status_code == 200
        assert len(client.get("/v1/videos").json()["data"]) == 1

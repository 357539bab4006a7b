from __future__ import annotations

import re
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from api_service import BALLOON, RECEIPT, Api, Start
from videosvc.artifacts.retention import Sweeper
from videosvc.cli.main import run
from videosvc_queue.job import Status
from videosvc_queue.tenants import TenantLimits


def test_a_new_video_is_queued_and_says_all_the_contract_names(api: Api) -> None:
    with api.client() as client:
        answer = client.post("/v1/videos", json={**BALLOON, "metadata": {"shelf": "3"}})
        video = answer.json()
        assert client.get(f"/v1/videos/{video['id']}").json() == video
    assert answer.status_code == 200
    assert re.fullmatch(r"video_[A-Za-z0-9_-]{24}", video["id"])
    assert video["object"] == "video" and video["status"] == "queued" and video["model"] == "toyworld"
    assert video["seconds"] == "2" and video["size"] == "64x64" and video["seed"] == 7
    assert video["progress"] == 0 and video["attempts"] == 0 and video["metadata"] == {"shelf": "3"}
    assert abs(video["created_at"] - time.time()) < 60
    assert video["completed_at"] is video["expires_at"] is video["error"] is video["receipt"] is None
    assert video["prompt"] == BALLOON["prompt"] and video["preset"] == "balanced" and video["tier"] == "interactive"
    assert video["queue_position"] == 0 and video["eta_seconds"] > 0
    assert video["plan"]["size"] == "64x64" and video["plan"]["traded"] == []
    assert video["quote"]["price_usd"] > 0 and video["quote"]["object"] == "quote"
    assert 200 <= int(answer.headers["openai-poll-after-ms"]) <= 2000
    assert answer.headers["X-RateLimit-Limit"] == "600" and answer.headers["X-RateLimit-Remaining"] == "599"


def test_a_multipart_form_makes_the_same_video(api: Api) -> None:
    form = {"prompt": (None, "a fish"), "seconds": (None, "1.5"), "seed": (None, "3"), "fps": (None, "4"),
            "metadata[shelf]": (None, "3"), "metadata[row]": (None, "ä")}  # fmt: skip
    with api.client() as client:
        video = client.post("/v1/videos", files=form).json()
    assert (video["seconds"], video["seed"], video["plan"]["fps"]) == ("1.5", 3, 4)
    assert video["metadata"] == {"shelf": "3", "row": "ä"}


def test_place_and_eta_come_from_the_compute_ahead(api: Api) -> None:
    first = api.create(seconds="8")
    second = api.create()
    assert (first["queue_position"], second["queue_position"]) == (0, 1)
    assert second["eta_seconds"] == pytest.approx(first["eta_seconds"] + second["quote"]["compute_seconds"], rel=0.02)
    batch = api.create(tier="batch")
    assert batch["queue_position"] == 2
    assert batch["quote"]["price_usd"] < second["quote"]["price_usd"], "batch is cheaper"


def test_a_completed_video(api: Api, tmp_path: Path) -> None:
    api.create()
    with api.client() as client:
        answer = client.get(f"/v1/videos/{api.complete(tmp_path)}")
    video = answer.json()
    assert (video["status"], video["progress"], video["attempts"]) == ("completed", 100, 1)
    assert video["receipt"] == RECEIPT and video["expires_at"] == 4_000_000_000
    assert video["completed_at"] >= video["created_at"]
    assert video["queue_position"] is video["eta_seconds"] is None
    assert "openai-poll-after-ms" not in answer.headers


@pytest.mark.parametrize("code", ["out_of_memory", "worker_lost", "compute_cap_exceeded", "internal_error"])
def test_a_failed_video_is_an_answer(code: str, api: Api) -> None:
    api.create()
    with api.client() as client:
        answer = client.get(f"/v1/videos/{api.fail(code, 'so it goes')}")
    assert answer.status_code == 200
    assert answer.json()["status"] == "failed"
    assert answer.json()["error"] == {"code": code, "message": "so it goes"}
    unattended(answer.json(), wasted_s=0.0)


def test_progress_of_a_running_one(api: Api) -> None:
    video = api.create()
    claim = api.claim()
    plan = video["plan"] | {"steps": 2}
    api.services.store.beat(claim.job.id, claim.fence, progress=50, detail={"plan": plan})
    with api.client() as client:
        running = client.get(f"/v1/videos/{video['id']}").json()
    assert (running["status"], running["progress"], running["plan"]["steps"]) == ("in_progress", 50, 2)
    assert running["eta_seconds"] == pytest.approx(video["quote"]["compute_seconds"] / 2, abs=0.02)
    assert running["queue_position"] is None


def test_cancel(api: Api) -> None:
    waiting, running = api.create(), api.create()
    with api.client() as client:
        assert api.claim().job.id == waiting["id"]
        stopping = client.post(f"/v1/videos/{waiting['id']}/cancel")
        assert (stopping.status_code, stopping.json()["status"]) == (200, "in_progress"), "until its next step"
        cancelled = client.post(f"/v1/videos/{running['id']}/cancel").json()
        assert cancelled["status"] == "cancelled" and cancelled["error"]["code"] == "cancelled"
        assert client.post(f"/v1/videos/{running['id']}/cancel").json() == cancelled, "twice is no error"
        unattended(cancelled, wasted_s=0.0)
        assert stopping.json()["receipt"] is None, "not yet"


@pytest.mark.parametrize("end", ["worker_lost", "cancelled as it waited", "cancelled as its worker was lost"])
def test_what_a_lost_worker_spent_is_on_the_receipt(end: str, api: Api) -> None:
    video, store = api.create(), api.services.store
    lost_s, spent_s = 0.0, 0.0
    for attempt in range(1 if end == "cancelled as it waited" else 3):
        claim = api.claim()
        lost_s, spent_s = lost_s + spent_s, 0.5 + attempt
        store.beat(claim.job.id, claim.fence, detail={"lost_s": lost_s, "spent_s": spent_s, "device": "cpu"})
        if end == "cancelled as its worker was lost" and attempt == 2:
            store.cancel(claim.job.id, "default")
        store.requeue(claim.job.id, claim.fence)
    with api.client() as client:
        if end == "cancelled as it waited":
            client.post(f"/v1/videos/{video['id']}/cancel")
        video = client.get(f"/v1/videos/{video['id']}").json()
        (listed,) = client.get("/v1/videos").json()["data"]
        usage = client.get("/v1/usage").json()["total"]
    assert video["error"]["code"] == ("worker_lost" if end == "worker_lost" else "cancelled")
    unattended(video, wasted_s=lost_s + spent_s)
    assert listed["receipt"] == video["receipt"] and video["receipt"]["device"] == "cpu"
    assert usage == {"videos": 1, "compute_seconds": 0.0, "charged_usd": 0.0}


def unattended(video: dict[str, Any], wasted_s: float) -> None:
    """Has the receipt of a job whose end no worker measured: free, and nothing in it is invented."""
    receipt, quote = video["receipt"], video["quote"]
    assert receipt["charged_usd"] == receipt["compute_seconds"] == sum(receipt["by_stage"].values()) == 0
    assert receipt["wasted_compute_seconds"] == wasted_s and receipt["levers"] == []
    assert receipt["quoted_usd"] == quote["price_usd"]
    assert receipt["device_usd_per_hour"] == quote["device_usd_per_hour"]
    assert (receipt["energy_joules"] > 0) == (receipt["device"] is not None) == (wasted_s > 0)


def test_delete(api: Api, tmp_path: Path) -> None:
    api.create()
    done = api.complete(tmp_path)
    waiting = api.create()["id"]
    with api.client() as client:
        for video_id in (done, waiting):
            answer = client.delete(f"/v1/videos/{video_id}")
            assert answer.json() == {"id": video_id, "object": "video.deleted", "deleted": True}
            assert client.get(f"/v1/videos/{video_id}").status_code == 404
            assert client.delete(f"/v1/videos/{video_id}").status_code == 404
        assert client.get("/v1/videos").json()["data"] == []
    assert api.services.store.claim(["toyworld"], "worker-1") is None, "the waiting one was cancelled"


def test_delete_takes_the_quote_too(api: Api) -> None:
    with api.client() as client:
        quote_id = client.post("/v1/quotes", json=BALLOON).json()["id"]
        video = client.post("/v1/videos", json={**BALLOON, "quote_id": quote_id}).json()
        assert api.services.store.get_quote(quote_id, "default") is not None
        client.delete(f"/v1/videos/{video['id']}")
    assert api.services.store.get_quote(quote_id, "default") is None, "it had the prompt as well"


def test_an_expired_video_is_told_of_without_its_words(api: Api, tmp_path: Path) -> None:
    api.create(metadata={"order": "17"}, negative_prompt="rain")
    video_id = api.complete(tmp_path, expires_at=1000.0)
    with api.client() as client:
        before = client.get(f"/v1/videos/{video_id}").json()
        Sweeper(api.services.store, api.services.artifacts, 86400.0).tick(now=1000.0)
        after = client.get(f"/v1/videos/{video_id}").json()
        content = client.get(f"/v1/videos/{video_id}/content")
    assert (before["prompt"], before["metadata"]) == (BALLOON["prompt"], {"order": "17"})
    assert after == before | {"prompt": "", "metadata": {}}
    assert content.json()["error"]["code"] == "content_expired"


def test_list_by_pages(api: Api) -> None:
    ids = [api.create()["id"] for _ in range(5)]
    with api.client() as client:
        page = client.get("/v1/videos", params={"limit": 2}).json()
        assert [video["id"] for video in page["data"]] == ids[:2:-1]
        assert (page["object"], page["first_id"], page["last_id"]) == ("list", ids[4], ids[3])
        assert page["has_more"] is True
        rest = client.get("/v1/videos", params={"after": ids[3]}).json()
        assert [video["id"] for video in rest["data"]] == ids[2::-1] and rest["has_more"] is False
        oldest = client.get("/v1/videos", params={"order": "asc", "limit": 1}).json()
        assert oldest["data"][0]["id"] == ids[0]
        empty = client.get("/v1/videos", params={"after": ids[0]}).json()
    assert (empty["data"], empty["first_id"], empty["last_id"], empty["has_more"]) == ([], None, None, False)


def test_an_idempotency_key_makes_one_video(api: Api) -> None:
    key = {"Idempotency-Key": "order-17"}
    with api.client() as client:
        first = client.post("/v1/videos", json=BALLOON, headers=key)
        form = {name: (None, str(value)) for name, value in BALLOON.items()} | {"seed": (None, "7")}
        spelt_out = {**BALLOON, "seconds": 2, "fps": None, "on_cap": "degrade"}
        for same in ({"json": BALLOON}, {"json": spelt_out}, {"files": form}):
            again = client.post("/v1/videos", headers=key, **same)
            assert again.json() == first.json() and again.headers["Idempotent-Replayed"] == "true"
        other = client.post("/v1/videos", json={**BALLOON, "seed": 8}, headers=key)
        plain = client.post("/v1/videos", files=form)
    assert "Idempotent-Replayed" not in first.headers
    assert other.status_code == 422
    assert other.json()["error"]["code"] == "idempotency_conflict"
    assert other.json()["error"]["param"] == "Idempotency-Key"
    assert plain.json()["id"] != first.json()["id"]


def test_the_key_of_a_deleted_video_answers_as_the_video_does(api: Api) -> None:
    with api.client() as client:
        headers = {"Idempotency-Key": "order-18"}
        path = f"/v1/videos/{client.post('/v1/videos', json=BALLOON, headers=headers).json()['id']}"
        client.delete(path)
        answers = [client.get(path), client.post("/v1/videos", json=BALLOON, headers=headers)]
        videos = client.get("/v1/videos").json()["data"]
    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in answers] == [(404, "not_found")] * 2
    assert answers[1].json()["error"]["param"] == "Idempotency-Key"
    assert videos == []


def test_limits_of_a_tenant(start: Start) -> None:
    api = start()
    store = api.services.store
    store.upsert_tenant("default", TenantLimits(max_queued=1, per_minute=3))
    with api.client() as client:
        assert client.post("/v1/videos", json=BALLOON).status_code == 200
        full = client.post("/v1/videos", json=BALLOON)
        assert (full.status_code, full.json()["error"]["code"]) == (429, "queue_full")
        assert int(full.headers["Retry-After"]) >= 1
        assert client.post("/v1/quotes", json=BALLOON).status_code == 200
        fast = client.post("/v1/quotes", json=BALLOON)
        assert (fast.status_code, fast.json()["error"]["code"]) == (429, "quota_exceeded")
        assert fast.headers["X-RateLimit-Remaining"] == "0" and 1 <= int(fast.headers["Retry-After"]) <= 61


def test_spend_of_a_day_is_bounded(api: Api) -> None:
    from decimal import Decimal

    api.services.store.upsert_tenant("default", TenantLimits(usd_per_day=Decimal("0.000000001")))
    with api.client() as client:
        answer = client.post("/v1/videos", json=BALLOON)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "quota_exceeded")
    assert "Retry-After" in answer.headers


def test_warnings_are_told_and_go_with_the_words(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    warning = "the model never saw these words: balloon"
    video_id = api.create()["id"]
    claim, store = api.claim(), api.services.store
    store.beat(claim.job.id, claim.fence, detail={"device": "cpu", "warnings": [warning]})
    with api.client() as client:
        assert client.get(f"/v1/videos/{video_id}").json()["warnings"] == [warning]
        assert store.finish(
            video_id, claim.fence, Status.COMPLETED, result={"receipt": RECEIPT, "size": "64x64"},
            charge_usd=Decimal("0.00001"), compute_s=1.0, expires_at=time.time() - 1,
        )  # fmt: skip
        monkeypatch.setenv("VIDEOSVC_URL", api.url)
        assert run(["jobs", "watch", video_id]) == 0
        assert f"warning: {warning}\n" in capsys.readouterr().err
        Sweeper(store, api.services.artifacts, retention_s=3600).tick()
        assert client.get(f"/v1/videos/{video_id}").json()["warnings"] == []


def test_a_clip_is_as_long_as_its_frames(api: Api) -> None:
    video = api.create(seconds="0.3")
    assert (video["seconds"], video["plan"]["frames"], video["plan"]["seconds"]) == ("0.375", 3, 0.375)
    quote = video["quote"]
    assert quote["seconds"] == 0.375
    assert quote["price_per_second_usd"] == pytest.approx(quote["price_usd"] / 0.375, abs=1e-9)

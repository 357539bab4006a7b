"""A picture to start from: where it is kept, what it costs, and what takes it away again."""

from __future__ import annotations

import base64
import io
import json
import time
from pathlib import Path

import httpx
import pytest
from PIL import Image

from api_service import BALLOON, Api, Start
from videosvc.artifacts.retention import Sweeper
from videosvc_queue.retention import LEFT_BEHIND_S
from videosvc_queue.tenants import TenantLimits


def png(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (200, 100), colour).save(file, "PNG")
    return file.getvalue()


RED, BLUE = png("red"), png("blue")


def post(client: httpx.Client, path: str, picture: bytes, key: str | None = None, **fields: str) -> httpx.Response:
    files = {"input_reference": ("a.png", picture, "image/png")}
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.post(path, data=BALLOON | fields, files=files, headers=headers)


def kept(api: Api) -> list[str]:
    """Keys of all pictures in the artifact store."""
    root = Path(api.services.settings.artifact_url.removeprefix("file://"))
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.png"))


def test_the_row_holds_a_key_and_not_the_picture(api: Api) -> None:
    noise = io.BytesIO()
    Image.effect_noise((400, 400), 100).save(noise, "PNG")
    with api.client() as client:
        video = post(client, "/v1/videos", noise.getvalue()).json()
    job = api.services.store.get(video["id"])
    assert job is not None and kept(api) == [job.payload["input_reference"]]
    assert len(json.dumps(job.payload)) < 8000 < api.services.artifacts.size(job.payload["input_reference"])
    assert job.payload["quote"]["plan"]["input_reference"] is not None


def test_json_may_bring_it_as_a_data_url(api: Api) -> None:
    url = "data:image/png;base64," + base64.b64encode(RED).decode()
    with api.client() as client:
        for reference in (url, {"image_url": url}):
            answer = client.post("/v1/videos", json=BALLOON | {"input_reference": reference})
            assert answer.status_code == 200, answer.text
        assert client.post("/v1/videos", json=BALLOON | {"input_reference": None}).status_code == 200
        twice = {"files": {"input_reference": ("a.png", RED)}, "data": BALLOON | {"input_reference": url}}
        assert client.post("/v1/videos", **twice).status_code == 400
    assert len(kept(api)) == 2


def test_a_key_with_another_picture_is_a_conflict(api: Api) -> None:
    with api.client() as client:
        first = post(client, "/v1/videos", RED, "k")
        again = post(client, "/v1/videos", RED, "k")
        url = "data:image/png;base64," + base64.b64encode(RED).decode()
        in_json = {"json": BALLOON | {"input_reference": url}, "headers": {"Idempotency-Key": "k"}}
        assert client.post("/v1/videos", **in_json).json()["id"] == first.json()["id"]
        other = post(client, "/v1/videos", BLUE, "k")
        without = client.post("/v1/videos", json=BALLOON, headers={"Idempotency-Key": "k"})
    assert first.json()["id"] == again.json()["id"] and again.headers["Idempotent-Replayed"] == "true"
    for answer in (other, without):
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "idempotency_conflict")
    assert kept(api) == [f"{first.json()['id']}/0/input_reference.png"]


def test_a_quote_counts_it_and_binds_it(api: Api) -> None:
    with api.client() as client:
        plain = client.post("/v1/quotes", json=BALLOON).json()
        quote = post(client, "/v1/quotes", RED).json()
        assert kept(api) == [], "a quote keeps nothing"
        assert quote["price_usd"] > plain["price_usd"] and quote["plan"] == plain["plan"]
        video = post(client, "/v1/videos", RED, quote_id=quote["id"]).json()
        assert video["quote"] == quote
        other = post(client, "/v1/videos", BLUE, quote_id=quote["id"])
        none = client.post("/v1/videos", json=BALLOON | {"quote_id": quote["id"]})
        added = post(client, "/v1/videos", RED, quote_id=plain["id"])
    for answer in (other, none, added):
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, "input_reference")
        assert "the same picture or none" in error["message"]
    assert len(kept(api)) == 1


@pytest.mark.parametrize("ends", ["completed", "cancelled"])
def test_it_goes_with_its_job(api: Api, tmp_path: Path, ends: str) -> None:
    with api.client() as client:
        video_id = post(client, "/v1/videos", RED).json()["id"]
        if ends == "completed":
            assert api.complete(tmp_path) == video_id
        assert client.delete(f"/v1/videos/{video_id}").status_code == 200
    assert len(kept(api)) == 1
    # One that has a clip at once, one that has none an hour later.
    now = None if ends == "completed" else time.time() + LEFT_BEHIND_S
    assert Sweeper(api.services.store, api.services.artifacts, LEFT_BEHIND_S).tick(now) == 1
    assert kept(api) == []


def test_what_is_refused_leaves_no_picture(start: Start) -> None:
    api = start()
    api.services.store.upsert_tenant("default", TenantLimits(max_queued=1))
    with api.client() as client:
        assert post(client, "/v1/videos", RED).status_code == 200
        assert post(client, "/v1/videos", RED).json()["error"]["code"] == "queue_full"
        assert post(client, "/v1/videos", RED, max_cost_usd="1e-9").json()["error"]["code"] == "cap_too_low"
    assert len(kept(api)) == 1


def test_a_place_that_does_not_answer_is_a_503(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    api = start(artifact_url=f"file://{tmp_path}/file")
    with api.client() as client:
        answer = post(client, "/v1/videos", RED)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert client.get("/v1/videos").json()["data"] == []


def test_a_body_too_large_is_a_413(start: Start) -> None:
    with start(max_body_bytes=10_000).client() as client:
        answer = post(client, "/v1/videos", RED + bytes(20_000))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")

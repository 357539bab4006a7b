from __future__ import annotations

from api_service import BALLOON, Api, Start

PAGE = "https://clips.example"


def test_closed_by_default(shared_api: Api) -> None:
    asks = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    with shared_api.client() as client:
        preflight = client.options("/v1/videos", headers=asks)
        answer = client.get("/healthz", headers={"Origin": PAGE})
    assert "access-control-allow-origin" not in preflight.headers
    assert "access-control-allow-origin" not in answer.headers


def test_open_for_the_origins_named(start: Start) -> None:
    api = start(cors_origins=[PAGE])
    asks = {"Origin": PAGE, "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,idempotency-key,x-stainless-lang"}  # fmt: skip
    with api.client() as client:
        preflight = client.options("/v1/videos", headers=asks)
        answer = client.post("/v1/videos", json=BALLOON, headers={"Origin": PAGE})
        refused = client.post("/v1/videos", json=BALLOON | {"prompt": ""}, headers={"Origin": PAGE})
        other = client.options("/v1/videos", headers=asks | {"Origin": "https://evil.example"})
    assert preflight.status_code == 200 and preflight.headers["access-control-allow-origin"] == PAGE
    assert "openai-poll-after-ms" in answer.headers["access-control-expose-headers"]
    assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == PAGE
    assert refused.headers["access-control-allow-origin"] == PAGE, "a page can read what was wrong"
    assert "access-control-allow-origin" not in other.headers

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api_service import BALLOON, Api, Start, running
from servers import RedisServer
from videosvc.api.open import open_app
from videosvc.config.settings import CHECKOUT_CONFIGS, Settings


def test_ready_once_there_is_a_worker(api: Api) -> None:
    with api.client() as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        alone = client.get("/readyz")
        assert alone.status_code == 503 and int(alone.headers["Retry-After"]) >= 1
        assert alone.json()["checks"] == {
            "database": "ok", "redis": "ok", "worker": "not ok", "configuration": "ok",
        }  # fmt: skip
        assert alone.json()["error"]["message"] == "not ok: worker"
        api.services.store.register_worker("w1", ["toyworld"], "cpu")
        ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ok")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_what_a_load_balancer_adds_does_not_matter(api: Api, path: str) -> None:
    api.services.store.register_worker("w1", ["toyworld"], "cpu")
    with api.client() as client:
        assert client.get(path, params={"ts": "1"}).status_code == 200


def test_probes_may_ask_for_the_head_alone(api: Api) -> None:
    with api.client() as client:
        answers = [client.head(path) for path in ("/healthz", "/readyz", "/")]
    assert [answer.status_code for answer in answers] == [200, 503, 200]
    assert [answer.content for answer in answers] == [b""] * 3


def test_what_is_wrong_is_told_to_the_log_alone_and_once(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    with api.client() as client:
        for _ in range(3):
            client.get("/readyz")
        api.services.store.register_worker("w1", ["toyworld"], "cpu")
        client.get("/readyz")
    told = [record.getMessage() for record in caplog.records if record.name == "videosvc.api.health"]
    assert told == ["readyz: worker: none was heard of in the last 30 seconds", "readyz: all is ok again"]


def test_without_redis_jobs_are_taken_and_readiness_says_so(
    own_redis: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(data_dir=tmp_path, device="cpu")
    opened = open_app(settings, CHECKOUT_CONFIGS, own_redis.url)
    with opened as app, running(app) as url, Api(url, app).client() as client:
        own_redis.kill()
        assert client.post("/v1/videos", json=BALLOON).status_code == 200
        ready = client.get("/readyz")
        video_id = client.get("/v1/videos").json()["data"][0]["id"]
        preview = client.get(f"/v1/videos/{video_id}/preview")
    assert (ready.json()["checks"]["redis"], ready.json()["checks"]["database"]) == ("not ok", "ok")
    socket = own_redis.url.partition("://")[2].partition("?")[0].rpartition("@")[2]
    assert socket not in ready.text and "redis: does not answer" in caplog.text
    assert (preview.status_code, preview.json()["error"]["code"]) == (503, "unavailable")
    assert "Retry-After" in preview.headers


def test_a_broken_preset_is_told_and_harms_no_other(
    tmp_path: Path, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "configs"
    shutil.copytree(CHECKOUT_CONFIGS, folder)
    settings = Settings(data_dir=tmp_path / "data", device="cpu")
    with open_app(settings, folder, redis_url) as app, running(app) as url, Api(url, app).client() as client:
        app.state.services.store.register_worker("w1", ["toyworld"], "cpu")
        (folder / "presets" / "draft.toml").write_text("[preset]\nname = 7\n")
        ready = client.get("/readyz")
        good = client.post("/v1/videos", json=BALLOON)
        bad = client.post("/v1/videos", json={**BALLOON, "preset": "draft"})
    assert ready.status_code == 200
    assert ready.json()["checks"]["configuration"] == "not ok"
    assert "draft.toml" in caplog.text and str(folder) not in ready.text
    assert good.status_code == 200
    assert bad.status_code in (200, 503), "the last good one, or an honest refusal"


def test_a_device_without_a_price_is_told(tmp_path: Path, redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "configs"
    shutil.copytree(CHECKOUT_CONFIGS, folder)
    (folder / "devices.toml").write_text('[[devices]]\npattern = "cpu"\nusd_per_hour = 1\nwatts = 65\n')
    settings = Settings(data_dir=tmp_path / "data", device="cpu")
    with open_app(settings, folder, redis_url) as app, running(app) as url, Api(url, app).client() as client:
        store = app.state.services.store
        store.register_worker("w1", ["toyworld"], "cpu")
        assert client.get("/readyz").json()["checks"]["configuration"] == "ok"
        store.register_worker("w1", ["toyworld"], "NVIDIA RTX 9000")
        ready = client.get("/readyz")
        devices = folder / "devices.toml"
        devices.write_text(devices.read_text().replace('"cpu"', '"*"'))
        mended = client.get("/readyz")
    assert ready.status_code == 200 and ready.json()["checks"]["configuration"] == "not ok"
    assert "configuration: devices.toml: no pattern fits device 'NVIDIA RTX 9000'; add one" in caplog.text
    assert mended.json()["checks"]["configuration"] == "ok"


def test_metrics(start: Start) -> None:
    api = start()
    video = api.create()
    api.services.store.register_worker("w1", ["toyworld"], "cpu", {"prompt_cache_hits": 5, "prompt_cache_misses": 2})
    with api.client() as client:
        client.get(f"/v1/videos/{video['id']}")
        client.get("/v1/videos/video_000000000000000000000000")
        client.get("/nowhere")
        text = client.get("/metrics").text
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["videosvc_requests_total", "/v1/videos", "200", "POST"] == 1
    assert samples["videosvc_requests_total", "/v1/videos/{video_id}", "200", "GET"] == 1
    assert samples["videosvc_requests_total", "/v1/videos/{video_id}", "404", "GET"] == 1
    assert samples["videosvc_jobs_queued", "interactive", "toyworld"] == 1
    assert samples["videosvc_workers",] == 1 and samples["videosvc_jobs_in_progress",] == 0
    assert samples["videosvc_prompt_cache_hits_total", "w1"] == 5
    assert samples["videosvc_prompt_cache_misses_total", "w1"] == 2
    assert not any("/nowhere" in labels for labels in samples)

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from api_service import BALLOON, Api, Start, running
from known_configs import known_configs
from videosvc.api import planners, schemas
from videosvc.api.open import open_app
from videosvc.config.models import load_model
from videosvc.config.settings import Settings, config_dir


def test_a_quote_runs_nothing_and_says_what_would(api: Api) -> None:
    with api.client() as client:
        quote = client.post("/v1/quotes", json=BALLOON).json()
        assert client.get("/v1/videos").json()["data"] == []
    assert quote["object"] == "quote" and quote["model"] == "toyworld" and quote["preset"] == "balanced"
    assert quote["seconds"] == 2.0 and quote["plan"]["size"] == "64x64"
    assert quote["price_usd"] == pytest.approx(2 * quote["price_per_second_usd"], rel=0.01)
    assert quote["compute_seconds"] > 0 and quote["eta_seconds"] > 0
    assert quote["traded"] == [] and len(quote["alternatives"]) >= 1
    assert (quote["calibrated"], quote["device"]) == (False, "cpu"), "the price is a guess, and says so"
    assert set(quote) == set(schemas.Quote.model_fields), "all of it is in the OpenAPI document"


def test_a_video_at_the_price_that_was_quoted(api: Api) -> None:
    with api.client() as client:
        quote = client.post("/v1/quotes", json=BALLOON).json()
        video = client.post("/v1/videos", json={**BALLOON, "quote_id": quote["id"], "metadata": {"a": "b"}}).json()
        assert video["quote"] == quote
        other = client.post("/v1/videos", json={**BALLOON, "seconds": "3", "quote_id": quote["id"]})
    assert (other.status_code, other.json()["error"]["param"]) == (400, "seconds")
    assert "2.0 was quoted" in other.json()["error"]["message"]


def test_the_seed_of_a_quote_is_kept(api: Api) -> None:
    with api.client() as client:
        quote = client.post("/v1/quotes", json={"prompt": "a fish"}).json()
        body = {"prompt": "a fish", "quote_id": quote["id"]}
        first, second = (client.post("/v1/videos", json=body).json() for _ in range(2))
    assert first["seed"] == second["seed"], "it is part of what was planned"
    assert first["id"] != second["id"]


def test_an_expired_quote(api: Api) -> None:
    with api.client() as client:
        quote = client.post("/v1/quotes", json=BALLOON).json()
        stored = api.services.store.get_quote(quote["id"], "default")
        assert stored is not None
        api.services.store.save_quote("quote_old", "default", stored.body, 1.0)
        answer = client.post("/v1/videos", json={**BALLOON, "quote_id": "quote_old"})
        unknown = client.post("/v1/videos", json={**BALLOON, "quote_id": "quote_none"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "quote_expired")
    assert answer.json()["error"]["param"] == "quote_id"
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (400, "quote_id")


def test_a_cap_is_traded_for_or_refused(api: Api) -> None:
    big = {**BALLOON, "preset": "quality"}
    with api.client() as client:
        whole = client.post("/v1/quotes", json=big).json()
        cheaper = whole["price_usd"] * 0.7
        quote = client.post("/v1/quotes", json={**big, "max_cost_usd": cheaper}).json()
        assert quote["price_usd"] <= cheaper and quote["traded"] != []
        refused = client.post("/v1/quotes", json={**big, "max_cost_usd": cheaper, "on_cap": "reject"})
        hopeless = client.post("/v1/videos", json={**big, "max_cost_usd": 1e-9})
    for answer in (refused, hopeless):
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "cap_too_low")
        assert answer.json()["error"]["param"] == "max_cost_usd"
        assert 1e-9 < answer.json()["error"]["cheapest_usd"] <= whole["price_usd"]


def test_its_eta_knows_the_queue(api: Api) -> None:
    with api.client() as client:
        alone = client.post("/v1/quotes", json=BALLOON).json()
        for _ in range(3):
            api.create()
        behind = client.post("/v1/quotes", json=BALLOON).json()
        batch = client.post("/v1/quotes", json={**BALLOON, "tier": "batch"}).json()
    assert behind["eta_seconds"] == pytest.approx(alone["eta_seconds"] + 3 * alone["compute_seconds"], abs=0.15)
    assert batch["eta_seconds"] == pytest.approx(behind["eta_seconds"], abs=0.15)  # interactive ones go first


def test_auto_and_goals(api: Api) -> None:
    with api.client() as client:
        quote = client.post("/v1/quotes", json={**BALLOON, "model": "auto"}).json()
        assert quote["model"] == "toyworld"
        video = client.post("/v1/videos", json={**BALLOON, "model": "auto", "quote_id": quote["id"]}).json()
        assert video["model"] == "toyworld"
        late = client.post("/v1/videos", json={**BALLOON, "deadline_seconds": 1e-4})
        odd = client.post("/v1/videos", json={**BALLOON, "min_quality": 1.5})
    assert (late.status_code, late.json()["error"]["param"]) == (400, "deadline_seconds")
    assert (odd.status_code, odd.json()["error"]["param"]) == (400, "min_quality")


def test_a_model_that_no_worker_takes_up_is_refused(api: Api) -> None:
    api.services.store.register_worker("worker-1", ["another"], "cpu")
    with api.client() as client:
        quote = client.post("/v1/quotes", json=BALLOON)
        video = client.post("/v1/videos", json=BALLOON)
    for answer in (quote, video):
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")
        assert "no worker runs 'toyworld' yet" in answer.json()["error"]["message"]


def test_a_quote_whose_model_no_worker_runs_any_more_is_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planners, "KNOWN_FOR_S", 0.0)
    store = api.services.store
    store.register_worker("worker-1", ["toyworld"], "cpu")
    with api.client() as client:
        body = {**BALLOON, "quote_id": client.post("/v1/quotes", json=BALLOON).json()["id"]}
        store.register_worker("worker-1", ["another"], "cpu")
        gone = client.post("/v1/videos", json=body)
        store.register_worker("worker-1", ["toyworld"], "cpu", None, {"weights=native": "there is no memory"})
        unable = client.post("/v1/videos", json=body)
        store.register_worker("worker-1", ["toyworld"], "cpu")
        assert client.post("/v1/videos", json=body).status_code == 200
    assert (gone.status_code, gone.json()["error"]["param"]) == (400, "model")
    assert (unable.status_code, unable.json()["error"]["param"]) == (400, "preset")


def test_a_preset_that_no_worker_can_load_is_refused(tmp_path: Path, redis_url: str) -> None:
    folder = known_configs(tmp_path / "configs")
    preset = folder / "presets" / "balanced.toml"
    preset.write_text(preset.read_text().replace('weights = "native"', 'weights = "int8"\ncompile = true'))
    reason = "lever weights='int8' cannot be: its products are not exact here"
    with open_app(Settings(data_dir=tmp_path / "data", device="cpu"), folder, redis_url) as app, running(app) as url:
        api = Api(url, app)
        store = api.services.store
        store.register_worker("one", ["toyworld"], "cpu", None, {"weights=int8": reason})
        store.register_worker("two", ["toyworld"], "cpu", None, {"compile=true": "there is no compiler"})
        store.register_worker("three", ["another"], "cpu")
        with api.client() as client:
            for path in ("/v1/quotes", "/v1/videos"):
                answer = client.post(path, json=BALLOON)
                error = answer.json()["error"]
                assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_request", "preset")
                assert error["message"].startswith("preset: 'balanced' is more than any worker of model 'toyworld' can")
                assert reason in error["message"]
            assert client.post("/v1/quotes", json={**BALLOON, "preset": "quality"}).status_code == 200
            assert client.get("/v1/videos").json()["data"] == [], "nothing is held for it"


def test_a_frame_cache_that_no_worker_can_read_of_this_model_is_refused(tmp_path: Path, redis_url: str) -> None:
    folder = known_configs(tmp_path / "configs")
    preset = folder / "presets" / "balanced.toml"
    preset.write_text(preset.read_text().replace('frame_cache = "native"', 'frame_cache = "int8"'))
    with open_app(Settings(data_dir=tmp_path / "data"), folder, redis_url) as app, running(app) as url:
        api = Api(url, app)
        refuses = {"toyworld frame_cache=int8": "no kernel image"}
        api.services.store.register_worker("one", ["toyworld", "another"], "cpu", None, refuses)
        with api.client() as client:
            answer = client.post("/v1/videos", json=BALLOON)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "preset")
            assert "no kernel image" in answer.json()["error"]["message"]
            assert client.post("/v1/quotes", json={**BALLOON, "preset": "quality"}).status_code == 200


def test_a_worker_that_can_is_enough(tmp_path: Path, redis_url: str) -> None:
    folder = known_configs(tmp_path / "configs")
    preset = folder / "presets" / "balanced.toml"
    preset.write_text(preset.read_text().replace('weights = "native"', 'weights = "int8"'))
    with open_app(Settings(data_dir=tmp_path / "data", device="cpu"), folder, redis_url) as app, running(app) as url:
        api = Api(url, app)
        api.services.store.register_worker("one", ["toyworld"], "cpu", None, {"weights=int8": "no"})
        api.services.store.register_worker("two", ["toyworld"], "cpu")
        with api.client() as client:
            assert client.post("/v1/quotes", json=BALLOON).status_code == 200


def test_where_there_may_be_a_gpu_the_first_worker_says_what_to_price_for(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planners, "NVIDIA_DRIVER", tmp_path)
    monkeypatch.setattr(planners, "KNOWN_FOR_S", 0.0)
    api = start(device="auto")
    with api.client() as client:
        for path in ("/v1/quotes", "/v1/videos"):
            early = client.post(path, json=BALLOON)
            assert (early.status_code, early.json()["error"]["code"]) == (503, "unavailable")
            assert int(early.headers["Retry-After"]) >= 1
        api.services.store.register_worker("worker-1", ["toyworld"], "NVIDIA H200")
        assert client.post("/v1/quotes", json=BALLOON).json()["device"] == "NVIDIA H200"


def test_on_a_cpu_that_was_chosen_nobody_waits_for_a_gpu(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planners, "NVIDIA_DRIVER", tmp_path)
    with start(device="cpu").client() as client:
        assert client.post("/v1/quotes", json=BALLOON).json()["device"] == "cpu"


def test_auto_takes_what_a_worker_can_load(tmp_path: Path, redis_url: str) -> None:
    folder = known_configs(tmp_path / "configs")
    models = folder / "models.toml"
    text = models.read_text()
    entry = text[text.index("[[models]]") :]
    models.write_text(entry.replace('name = "toyworld"', 'name = "first"') + "\n" + entry)
    preset = folder / "presets" / "balanced.toml"
    preset.write_text(preset.read_text().replace('weights = "native"', 'weights = "int8"'))
    auto = {**BALLOON, "model": "auto"}
    with open_app(Settings(data_dir=tmp_path / "data", device="cpu"), folder, redis_url) as app, running(app) as url:
        api = Api(url, app)
        api.services.store.register_worker("one", ["first"], "cpu", None, {"weights=int8": "they are not exact"})
        api.services.store.register_worker("two", ["toyworld"], "cpu")
        with api.client() as client:
            assert client.post("/v1/quotes", json=auto).json()["model"] == "toyworld"
            answer = client.post("/v1/quotes", json={**BALLOON, "model": "first"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "preset")


def test_a_fleet_of_several_kinds_of_devices_is_told_once(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    api.services.store.register_worker("worker-1", ["toyworld"], "NVIDIA H200")
    api.services.store.register_worker("worker-2", ["toyworld"], "NVIDIA A100")
    with api.client() as client:
        devices = {client.post("/v1/quotes", json=BALLOON).json()["device"] for _ in range(2)}
    assert devices == {"NVIDIA A100"}, "the first by name, whichever replica is asked"
    assert caplog.messages.count("workers run on NVIDIA A100 and NVIDIA H200; all quotes are for NVIDIA A100") == 1


def test_it_is_for_the_last_workers_device(api: Api) -> None:
    api.services.store.register_worker("worker-1", ["toyworld"], "NVIDIA H200")
    with api.client() as client:
        assert client.post("/v1/quotes", json=BALLOON).json()["device"] == "NVIDIA H200"


def test_a_model_of_a_hub_is_fetched_beside_requests(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, done = threading.Event(), threading.Event()
    bundled = load_model(config_dir(), "toyworld").folder()

    def snapshot_download(path: str, revision: str, local_files_only: bool = False) -> str:
        if local_files_only and not there.is_set():
            raise LocalEntryNotFoundError("not here")
        if not local_files_only:
            assert done.wait(30)
            there.set()
        return str(bundled)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    folder = known_configs(tmp_path / "configs")
    models = folder / "models.toml"
    text = models.read_text()
    entry = text[text.index("[[models]]") :]
    hub = entry.replace('name = "toyworld"', 'name = "far"')
    hub = hub.replace('path = "bundled:toyworld"', f'path = "someone/far"\nrevision = "{40 * "a"}"')
    models.write_text(hub + "\n" + entry)
    far = {**BALLOON, "model": "far"}
    with (
        open_app(Settings(data_dir=tmp_path / "data", device="cpu"), folder, redis_url) as app,
        running(app) as url,
        Api(url, app).client() as client,
    ):
        for path in ("/v1/quotes", "/v1/videos"):
            early = client.post(path, json=far)
            assert (early.status_code, early.json()["error"]["code"]) == (503, "unavailable")
            assert "'far' is still being fetched" in early.json()["error"]["message"]
            assert int(early.headers["Retry-After"]) >= 1
        assert client.post("/v1/quotes", json={**BALLOON, "model": "auto"}).json()["model"] == "toyworld"
        done.set()
        assert there.wait(30)
        assert client.post("/v1/quotes", json=far).json()["model"] == "far"

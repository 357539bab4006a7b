from __future__ import annotations

import time
from pathlib import Path

import pytest

from api_service import BALLOON, Api, Start
from videosvc.api import auth
from videosvc.api.auth import is_loopback
from videosvc.api.open import open_app
from videosvc.config.settings import CHECKOUT_CONFIGS, Settings
from videosvc.errors import UserError
from videosvc_queue.store import Store


@pytest.fixture
def keys(start: Start, tmp_path: Path) -> tuple[Api, str, str]:
    """A service with keys of two tenants."""
    data = tmp_path / "data"
    data.mkdir()
    with Store(Settings(data_dir=data).database_url) as store:
        store.migrate()
        ada, bob = (store.create_key(tenant, "test")[0] for tenant in ("ada", "bob"))
    return start(data_dir=data), ada, bob


@pytest.mark.parametrize("secret", [None, "", "vsk_wrong"])
def test_without_a_known_key_nothing_is_told(secret: str | None, keys: tuple[Api, str, str]) -> None:
    api, _, _ = keys
    routes = (("GET", "/v1/videos"), ("POST", "/v1/videos"), ("POST", "/v1/quotes"), ("GET", "/v1/models"),
              ("GET", "/v1/presets"), ("GET", "/v1/usage"), ("GET", "/v1/me"))  # fmt: skip
    with api.client(secret) as client:
        for method, path in routes:
            answer = client.request(method, path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key"), path
            assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_health_needs_none(keys: tuple[Api, str, str]) -> None:
    with keys[0].client() as client:
        assert [client.get(path).status_code for path in ("/healthz", "/metrics", "/openapi.json", "/", "/docs")] == [
            200
        ] * 5


def test_another_tenants_video_is_not_there(keys: tuple[Api, str, str]) -> None:
    api, ada, bob = keys
    with api.client(ada) as hers, api.client(bob) as his:
        path = f"/v1/videos/{hers.post('/v1/videos', json=BALLOON).json()['id']}"
        quote_id = hers.post("/v1/quotes", json=BALLOON).json()["id"]
        assert his.get("/v1/videos").json()["data"] == []
        for method, tail in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/content"), ("GET", "/events"),
                             ("GET", "/preview")):  # fmt: skip
            assert his.request(method, path + tail).status_code == 404
        after = his.get("/v1/videos", params={"after": path.rpartition("/")[2]})
        assert after.status_code == 400
        assert his.post("/v1/videos", json={**BALLOON, "quote_id": quote_id}).status_code == 400
        assert hers.get(path).json()["status"] == "queued", "and is unharmed"


def test_keys_of_the_same_name_do_not_meet(keys: tuple[Api, str, str]) -> None:
    api, ada, bob = keys
    headers = {"Idempotency-Key": "one"}
    with api.client(ada) as hers, api.client(bob) as his:
        first = hers.post("/v1/videos", json=BALLOON, headers=headers).json()
        second = his.post("/v1/videos", json={"prompt": "a fish"}, headers=headers).json()
    assert first["id"] != second["id"]


def test_a_revoked_key_ends_soon(keys: tuple[Api, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    api, ada, _ = keys
    with api.client(ada) as client:
        me = client.get("/v1/me").json()
        assert me["tenant"] == "ada"
        for row in api.services.store.list_keys("ada"):
            api.services.store.revoke_key(row.id)
        monkeypatch.setattr(auth, "KNOWN_FOR_S", 0.0)
        assert client.get("/v1/me").status_code == 401


def test_revoking_the_only_key_does_not_open_the_service(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "KNOWN_FOR_S", 0.0)
    secret, row = api.services.store.create_key("ada", "")
    assert api.services.store.revoke_key(row.id)
    for key in (None, secret, "vsk_other"):
        with api.client(key) as client:
            answers = [client.get("/v1/me"), client.get("/v1/videos"), client.post("/v1/videos", json=BALLOON)]
        assert [answer.status_code for answer in answers] == [401] * 3


def test_the_first_key_ends_open_mode(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "KNOWN_FOR_S", 0.0)
    with api.client() as client:
        assert client.get("/v1/me").json()["tenant"] == "default"
        secret, _ = api.services.store.create_key("ada", "")
        assert client.get("/v1/me").status_code == 401
    with api.client(secret) as client:
        assert client.get("/v1/me").json()["tenant"] == "ada"


def test_open_mode_serves_this_machine_only(shared_api: Api) -> None:
    port = shared_api.url.rpartition(":")[2]
    with shared_api.client() as client:
        for host in (f"localhost:{port}", f"[::1]:{port}", "[::1]", "127.0.0.1", f"127.0.0.2:{port}"):
            assert client.get("/v1/me", headers={"Host": host}).status_code == 200
        for host in (f"evil.example:{port}", f"127.0.0.2.evil.example:{port}", "10.0.0.1"):
            rebound = client.get("/v1/me", headers={"Host": host})
            assert (rebound.status_code, rebound.json()["error"]["code"]) == (403, "forbidden")
        own = {"Origin": shared_api.url}
        assert client.post("/v1/quotes", json=BALLOON, headers=own).status_code == 200
        foreign = client.post("/v1/quotes", json=BALLOON, headers={"Origin": "https://evil.example"})
        assert (foreign.status_code, foreign.json()["error"]["param"]) == (403, "Origin")


def test_no_keys_and_others_can_reach_it(tmp_path: Path, redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(data_dir=tmp_path, host="0.0.0.0")
    refused = pytest.raises(UserError, match=r"host: 0\.0\.0\.0 .* keys create .* --insecure")
    with refused as caught, open_app(settings, CHECKOUT_CONFIGS, redis_url):
        pass
    assert caught.value.param == "host"
    with open_app(settings.model_copy(update={"insecure": True}), CHECKOUT_CONFIGS, redis_url):
        assert "open mode" in caplog.text and "everybody" in caplog.text
    with Store(settings.database_url) as store:
        store.create_key("ada", "")
    with open_app(settings, CHECKOUT_CONFIGS, redis_url):
        pass


def test_insecure_serves_under_any_name(start: Start) -> None:
    api = start(insecure=True)
    with api.client() as client:
        assert client.get("/v1/me", headers={"Host": "studio.lan"}).status_code == 200


def test_a_guess_costs_one_query(keys: tuple[Api, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    api, _, _ = keys
    asked = []
    find = Store.find_key
    monkeypatch.setattr(Store, "find_key", lambda self, secret: asked.append(secret) or find(self, secret))
    with api.client("vsk_guess") as client:
        began = time.monotonic()
        for _ in range(3):
            client.get("/v1/me")
    assert len(asked) <= 1 + (time.monotonic() - began) // auth.KNOWN_FOR_S


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("10.0.0.1", False), ("studio.lan", False)],
)  # fmt: skip
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback

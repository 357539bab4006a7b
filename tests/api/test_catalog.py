from __future__ import annotations

from api_service import Api


def test_models(shared_api: Api) -> None:
    with shared_api.client() as client:
        models = client.get("/v1/models").json()
    (toyworld,) = models["data"]
    assert models["object"] == "list"
    assert (toyworld["id"], toyworld["object"], toyworld["is_default"]) == ("toyworld", "model", True)
    assert "64x64" in toyworld["sizes"] and toyworld["max_seconds"] == 8.0


def test_presets(shared_api: Api) -> None:
    with shared_api.client() as client:
        presets = client.get("/v1/presets").json()["data"]
    assert {"draft", "balanced", "quality", "reference"} <= {preset["id"] for preset in presets}
    assert [preset["id"] for preset in presets if preset["is_default"]] == ["balanced"]
    assert all(preset["description"] and preset["quality"]["size"] for preset in presets)

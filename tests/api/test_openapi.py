"""The OpenAPI document, and requests made from it."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error

from api_service import Api

ROUTES = {
    ("post", "/v1/videos"), ("get", "/v1/videos"), ("get", "/v1/videos/{video_id}"),
    ("delete", "/v1/videos/{video_id}"), ("post", "/v1/videos/{video_id}/cancel"),
    ("get", "/v1/videos/{video_id}/content"), ("get", "/v1/videos/{video_id}/events"),
    ("get", "/v1/videos/{video_id}/preview"), ("post", "/v1/quotes"), ("get", "/v1/models"), ("get", "/v1/presets"),
    ("get", "/v1/usage"), ("get", "/v1/me"), ("get", "/healthz"), ("get", "/readyz"), ("get", "/metrics"),
}  # fmt: skip


@pytest.fixture(scope="module")
def schema(shared_api: Api) -> Any:
    shared_api.services.store.register_worker("w1", ["toyworld"], "cpu")  # /readyz is 503 without one
    return schemathesis.openapi.from_url(f"{shared_api.url}/openapi.json")


@pytest.mark.parametrize(("method", "path"), sorted(ROUTES))
def test_no_request_makes_a_server_error(method: str, path: str, schema: Any) -> None:
    @settings(
        max_examples=15,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=schema[path][method].as_strategy())
    def requests(case: Any) -> None:
        case.call_and_validate(checks=[not_a_server_error], timeout=30)

    requests()


def test_all_routes_are_described_with_examples(shared_api: Api) -> None:
    with shared_api.client() as client:
        document = client.get("/openapi.json").json()
    assert {(method, path) for path, methods in document["paths"].items() for method in methods} == ROUTES
    create = document["paths"]["/v1/videos"]["post"]
    assert set(create["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    assert create["requestBody"]["content"]["application/json"]["schema"]["examples"]
    assert "input_reference" in create["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    for name in ("Video", "Quote", "Error"):
        assert document["components"]["schemas"][name]["example"]
    assert create["security"], "keys are asked for"
    with shared_api.client() as client:
        docs = client.get("/docs").text
    assert "http://" not in docs.replace("http://127.0.0.1", "") and "https://" not in docs, "no other host is asked"

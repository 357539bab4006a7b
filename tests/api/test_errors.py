"""What is refused, and that it is said which field is wrong."""

from __future__ import annotations

import io
import json
import socket
import struct
import zlib
from typing import Any

import httpx
import pytest
from PIL import Image

from api_service import BALLOON, Api
from videosvc.config.settings import Settings


def refusal(answer: httpx.Response, status: int, code: str, param: str | None) -> str:
    """The message of an error that is as expected."""
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert error["type"].endswith("_error")
    message: str = error["message"]
    assert message and "\n" not in message and len(message) < 400
    return message


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"prompt": ""}, "invalid_request", "must not be empty"),
        ({"prompt": "a" * 2**20}, "invalid_request", "at most 500"),
        ({"prompt": "red " * 40}, "invalid_request", "41 tokens; the model reads at most 32"),
        ({"prompt": "a\0b"}, "invalid_request", "NUL"),
        ({"prompt": "\ud800"}, "invalid_request", "UTF-8"),
        ({"prompt": 7}, "invalid_request", "string"),
        ({"negative_prompt": "a" * 501}, "invalid_request", "at most 500"),
        ({"model": "sora"}, "unknown_model", "there are toyworld"),
        ({"preset": "ultra"}, "unknown_preset", "there are balanced"),
        ({"seconds": "9"}, "invalid_request", "at most 8"),
        ({"seconds": 0}, "invalid_request", "at least 0.125"),
        ({"seconds": "soon"}, "invalid_request", "number"),
        ({"seconds": "NaN"}, "invalid_request", "finite"),
        ({"size": "70x64"}, "unsupported_size", "multiples of 16"),
        ({"size": "large"}, "unsupported_size", "WIDTHxHEIGHT"),
        ({"fps": 17}, "invalid_request", "from 1 to 16"),
        ({"fps": 1.5}, "invalid_request", "integer"),
        ({"seed": -1}, "invalid_request", "from 0 to"),
        ({"seed": 10**400}, "invalid_request", "from 0 to"),
        ({"max_cost_usd": -1}, "invalid_request", "more than 0"),
        ({"max_cost_usd": "Infinity"}, "invalid_request", "finite"),
        ({"max_compute_seconds": 0}, "invalid_request", "more than 0"),
        ({"seconds": True}, "invalid_request", "must be a number"),
        ({"fps": True}, "invalid_request", "must be a number"),
        ({"seed": False}, "invalid_request", "must be a number"),
        ({"max_cost_usd": True}, "invalid_request", "must be a number"),
        ({"max_compute_seconds": True}, "invalid_request", "must be a number"),
        ({"min_quality": True}, "invalid_request", "must be a number"),
        ({"deadline_seconds": True}, "invalid_request", "must be a number"),
        ({"on_cap": "haggle"}, "invalid_request", "'degrade' or 'reject'"),
        ({"tier": "slow"}, "invalid_request", "'interactive' or 'batch'"),
        ({"webhook_url": "ftp://a"}, "invalid_request", "must be an http:// or https:// URL"),
        ({"webhook_url": "https://:443"}, "invalid_request", "must have a host"),
        ({"webhook_url": "https://[::1"}, "invalid_request", "is no URL"),
        ({"webhook_url": "https://a..b/"}, "invalid_request", "is no URL"),
        ({"webhook_url": f"https://{'a' * 64}.example/"}, "invalid_request", "is no URL"),
        ({"webhook_url": "https://me:secret@example.com/"}, "invalid_request", "no user or password"),
        ({"webhook_url": "https://example.com:99999/"}, "invalid_request", "a port from 1 to 65535"),
        ({"webhook_url": "https://example.com:0/"}, "invalid_request", "a port from 1 to 65535"),
        ({"webhook_url": "http://127.0.0.1:9000/"}, "invalid_request", "127.0.0.1 is not a public address"),
        ({"webhook_url": "http://169.254.169.254/"}, "invalid_request", "not a public address"),
        ({"webhook_url": "http://[::ffff:10.0.0.1]/"}, "invalid_request", "not a public address"),
        ({"webhook_url": "http://[fe80::1%25eth0]/"}, "invalid_request", "not a public address"),
        ({"webhook_url": "http://0x7f.1/"}, "invalid_request", "not a public address"),
        ({"webhook_url": "http://localhost:3000/"}, "invalid_request", "not a public address"),
        ({"quote_id": "quote_none"}, "invalid_request", "there is no quote"),
        ({"quality": "hd"}, "invalid_request", "unknown field; known are deadline_seconds, fps, input_reference"),
        ({"input_reference": "AAAA"}, "invalid_request", "a file in a multipart body, or a data: URL"),
        ({"input_reference": "https://example.com/a.png"}, "invalid_request", "a data: URL"),
        ({"input_reference": {"file_id": "file_1"}}, "invalid_request", "a data: URL"),
        ({"input_reference": {"image_url": 5}}, "invalid_request", "a data: URL"),
        ({"input_reference": "data:image/png;base64,AA*A"}, "invalid_request", "base64"),
        ({"input_reference": "data:image/png;base64,AAAA"}, "invalid_request", "a whole PNG, JPEG, WEBP"),
    ],
)
def test_a_bad_field_is_named(change: dict[str, Any], code: str, says: str, shared_api: Api) -> None:
    with shared_api.client() as client:
        answer = client.post("/v1/videos", content=_json(BALLOON | change), headers=JSON)
    assert says in refusal(answer, 400, code, next(iter(change)))


@pytest.mark.parametrize(
    ("metadata", "param"),
    [
        ({"a": 1}, "metadata.a"),
        ({"a": "b" * 513}, "metadata.a"),
        ({"a\0": "b"}, "metadata"),
        ({str(number): "" for number in range(17)}, "metadata"),
        ([], "metadata"),
    ],
)
def test_bad_metadata(metadata: Any, param: str, shared_api: Api) -> None:
    with shared_api.client() as client:
        answer = client.post("/v1/videos", json=BALLOON | {"metadata": metadata})
    refusal(answer, 400, "invalid_request", param)


JSON = {"Content-Type": "application/json"}


def _json(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"[]", "body"),
        (b'{"prompt": "\xff"}', "body"),
        (b'{"prompt": "a", "max_cost_usd": NaN}', "max_cost_usd"),
        (b'{"prompt": "a", "seconds": ' + b"1" * 5000 + b"}", "body"),
        (b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "body"),
        (b"{}", "prompt"),
        (b'{"prompt": "a", "max_cost_usd": 1, "max_cost_usd": 9}', "max_cost_usd"),
        (b'{"prompt": "a", "metadata": {"b": "1", "b": "1"}}', "b"),
        (b'{"\\ud800": 1, "\\ud800": 1}', "body"),
        (b'{"prompt": "a", "metadata": ' + b"[" * 17 + b"]" * 17 + b"}", "body"),
        (b'{"prompt": ' + b"[" * 1200 + b"]" * 1200 + b"}", "body"),
        (b'{"prompt": ' + b'{"a":' * 1200 + b"1" + b"}" * 1200 + b"}", "body"),
        (b"{" + b",".join(b'"k%d": 1' % number for number in range(9_999)) + b', "k9998": 1}', "k9998"),
        (b"{" + b",".join(b'"k%d": 1' % number for number in range(50_000)) + b', "k49999": 1}', "body"),
        (b'{"prompt": [' + b"{}," * 5_000_000 + b"{}]}", "body"),
    ],
)
def test_bad_json(body: bytes, param: str, shared_api: Api) -> None:
    with shared_api.client() as client:
        refusal(client.post("/v1/quotes", content=body, headers=JSON), 400, "invalid_request", param)


def _part(name: bytes, value: bytes) -> bytes:
    return b'--X\r\nContent-Disposition: form-data; name="' + name + b'"\r\n\r\n' + value + b"\r\n"


PROMPT = _part(b"prompt", b"a fish")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", "body"),
        (b"nothing of the kind", "body"),
        (PROMPT, "body"),  # its end is missing
        (b"--X\r\n\r\nno name\r\n--X--\r\n", "body"),
        (_part(b"prompt", b"\xff") + b"--X--\r\n", "prompt"),
        (_part(b"prompt", b"a\0b") + b"--X--\r\n", "prompt"),
        (PROMPT + PROMPT + b"--X--\r\n", "prompt"),
        (PROMPT + _part(b"metadata[a]", b"1") + _part(b"metadata", b"1") + b"--X--\r\n", "metadata"),
        (PROMPT + _part(b"metadata[]", b"1") + b"--X--\r\n", "metadata"),
        (PROMPT + _part(b"a[b", b"1") + b"--X--\r\n", "body"),
        (PROMPT + _part(b"a" + b"[b]" * 16, b"1") + b"--X--\r\n", "a"),
        (PROMPT + _part(b"max_cost_usd", b"-1") + b"--X--\r\n", "max_cost_usd"),
        (PROMPT + _part(b"max_cost_usd", b"nan") + b"--X--\r\n", "max_cost_usd"),
        (PROMPT + _part(b"cap[usd]", b"1") + b"--X--\r\n", "cap"),
        (b"".join(_part(b"f%d" % number, b"") for number in range(201)) + b"--X--\r\n", "body"),
        (b"".join(_part(b'f%d"; filename="a' % number, b"") for number in range(100_000)) + b"--X--\r\n", "body"),
    ],
)
def test_bad_multipart(body: bytes, param: str, shared_api: Api) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=X"}
    with shared_api.client() as client:
        refusal(client.post("/v1/quotes", content=body, headers=headers), 400, "invalid_request", param)


def test_other_kinds_of_body(shared_api: Api) -> None:
    with shared_api.client() as client:
        for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
            answer = client.post("/v1/videos", content=b"prompt=a", headers={"Content-Type": kind})
            refusal(answer, 415, "unsupported_media_type", "Content-Type")
        no_boundary = client.post("/v1/videos", content=b"", headers={"Content-Type": "multipart/form-data"})
        refusal(no_boundary, 400, "invalid_request", "Content-Type")


@pytest.mark.parametrize("told", [True, False], ids=["length", "chunks"])
def test_a_body_over_the_limit_is_refused_before_it_is_read(told: bool, shared_api: Api) -> None:
    limit = Settings().max_body_bytes
    url = httpx.URL(shared_api.url)
    head = b"POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection((url.host, url.port or 80), timeout=30) as connection:
        if told:
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % 10**12)
        else:
            connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
            connection.sendall(b"%x\r\n" % 10**12 + b" " * (limit + 1))
        answer = b""
        while not answer.endswith(b"}}") and (piece := connection.recv(2000)):  # the body has not come to its end
            answer += piece
    assert answer.startswith(b"HTTP/1.1 413")
    assert b'"code":"body_too_large"' in answer and b'"param":"body"' in answer


def test_a_client_that_sends_all_of_it_gets_the_answer(shared_api: Api) -> None:
    with shared_api.client() as client:
        answer = client.post("/v1/videos", content=b" " * (Settings().max_body_bytes + 1), headers=JSON)
    refusal(answer, 413, "body_too_large", "body")


def _png(width: int, height: int) -> bytes:
    """A picture that is small in the post and large once it is unpacked."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((width // 8 + 1) * 8))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _photo(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (_photo("GIF"), "PNG, JPEG, WEBP"),
        (_photo("JPEG")[:-300], "whole"),
        (_png(5000, 5000), "at most 16777216 pixels"),
        (_png(12_000, 12_000), "at most 16777216 pixels"),
        (_png(60_000, 60_000), "at most 16777216 pixels"),
        (_png(1, 16_000_000), "1x16000000: a side may be at most 8192 pixels long"),
        (b"MZ", "PNG, JPEG, WEBP"),
        (b"", "PNG, JPEG, WEBP"),
    ],
)
def test_a_bad_first_frame(image: bytes, says: str, shared_api: Api) -> None:
    files = {"prompt": (None, "a fish"), "input_reference": ("a.png", image)}
    with shared_api.client() as client:
        answer = client.post("/v1/videos", files=files)
    assert says in refusal(answer, 400, "invalid_request", "input_reference")


@pytest.mark.parametrize("name", ["prompt", "poster"])
def test_a_file_where_none_belongs(name: str, shared_api: Api) -> None:
    with shared_api.client() as client:
        answer = client.post("/v1/videos", files={"prompt": (None, "a"), name: ("a.png", _photo("PNG"))})
    refusal(answer, 400, "invalid_request", name)


def test_a_prompt_that_came_as_a_file_is_not_said_to_be_missing(shared_api: Api) -> None:
    with shared_api.client() as client:
        answer = client.post("/v1/videos", files={"prompt": ("a.txt", b"a fish")})
    assert refusal(answer, 400, "invalid_request", "prompt") == "prompt: may not be a file"


def test_a_number_without_end_is_refused_in_our_own_words(shared_api: Api) -> None:
    body = b'{"prompt": "a", "seed": ' + b"1" * 5000 + b"}"
    with shared_api.client() as client:
        message = refusal(client.post("/v1/quotes", content=body, headers=JSON), 400, "invalid_request", "body")
    assert message == "body: has a number of too many digits"


def test_a_quote_refuses_what_its_video_would(shared_api: Api) -> None:
    body = BALLOON | {"prompt": "red " * 40}
    with shared_api.client() as client:
        answers = [client.post(path, json=body) for path in ("/v1/quotes", "/v1/videos")]
    quoted, created = (refusal(answer, 400, "invalid_request", "prompt") for answer in answers)
    assert quoted == created


@pytest.mark.parametrize(
    ("query", "param"),
    [("limit=0", "limit"), ("limit=101", "limit"), ("order=up", "order"), ("after=a%00", "after"),
     ("after=video_000000000000000000000000", "after"), ("limits=5", "limits"), ("limit=5&Order=asc", "Order"),
     ("limit=5&limit=6", "limit"), ("a%0Ab=1", "a\nb")],
)  # fmt: skip
def test_a_bad_query(query: str, param: str, shared_api: Api) -> None:
    with shared_api.client() as client:
        refusal(client.get(f"/v1/videos?{query}"), 400, "invalid_request", param)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/videos/video_000000000000000000000000", "/v1/me", "/v1/usage"])
def test_a_query_that_no_route_knows(path: str, shared_api: Api) -> None:
    with shared_api.client() as client:
        message = refusal(client.get(path, params={"limit": "5"}), 400, "invalid_request", "limit")
    assert "known are " + ("from, to" if path == "/v1/usage" else "none") in message


def test_numbers_may_be_text(shared_api: Api) -> None:
    with shared_api.client() as client:
        fields = {"seconds": "2", "fps": "8", "seed": "7", "max_cost_usd": "1"}
        assert client.post("/v1/quotes", json=BALLOON | fields).status_code == 200


def test_a_bad_idempotency_key(shared_api: Api) -> None:
    with shared_api.client() as client:
        for key in ("", "a" * 256, "a b"):
            answer = client.post("/v1/videos", json=BALLOON, headers={"Idempotency-Key": key})
            message = refusal(answer, 400, "invalid_request", "Idempotency-Key")
            assert message.startswith("Idempotency-Key: ") and "pattern" not in message


@pytest.mark.parametrize("video_id", ["video_000000000000000000000000", "x", "video_%00", "%2e%2e", "a" * 3000])
@pytest.mark.parametrize(
    ("method", "tail"),
    [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/content"), ("GET", "/preview"), ("GET", "/events")],
)
def test_an_unknown_video(method: str, tail: str, video_id: str, shared_api: Api) -> None:
    with shared_api.client() as client:
        answer = client.request(method, f"/v1/videos/{video_id}{tail}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_routes_and_methods_that_are_not_there(shared_api: Api) -> None:
    with shared_api.client() as client:
        refusal(client.get("/v1/images"), 404, "not_found", None)
        for path, allowed in (
            ("/v1/videos", "GET, POST"),
            ("/v1/videos/video_000000000000000000000000", "GET, DELETE"),
            ("/v1/quotes", "POST"),
        ):
            answer = client.put(path)
            refusal(answer, 405, "method_not_allowed", None)
            assert answer.headers["allow"] == allowed

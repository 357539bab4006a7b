"""What is large, or unpacks to something large, delays nobody else."""

from __future__ import annotations

import io
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from PIL import Image, ImageOps
from python_multipart.multipart import FormParser

from api_service import BALLOON, Api
from videosvc.api import body
from videosvc.api.app import FEW
from videosvc.api.body import SMALL_BYTES, Room

MANY = 45  # more than the 40 threads that all routes share


@pytest.mark.parametrize(
    ("owner", "name", "beside"),
    [(FormParser, "write", bytes(SMALL_BYTES)), (ImageOps, "exif_transpose", b"")],
    ids=["a large body", "a picture"],
)
def test_few_are_worked_on_at_a_time_and_others_are_answered(
    owner: Any, name: str, beside: bytes, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    works, inside, arrived, go_on = getattr(owner, name), list[str](), threading.Semaphore(0), threading.Event()

    def wait(*arguments: Any) -> Any:
        inside.append(name)
        arrived.release()
        assert go_on.wait(60)
        return works(*arguments)

    picture = io.BytesIO()
    Image.new("RGB", (64, 64)).save(picture, "PNG")
    files = {"input_reference": ("a.png", picture.getvalue() + beside)}
    monkeypatch.setattr(owner, name, wait)
    with api.client() as client, ThreadPoolExecutor(MANY) as pool:
        posts = [pool.submit(client.post, "/v1/quotes", data=BALLOON, files=files, timeout=120) for _ in range(MANY)]
        try:
            assert all(arrived.acquire(timeout=60) for _ in range(FEW))
            assert client.get("/healthz").status_code == client.get("/v1/videos").status_code == 200
            assert len(inside) == FEW
        finally:
            go_on.set()
        assert {post.result().status_code for post in posts} == {200}
    assert len(inside) == MANY


def test_large_bodies_have_so_much_room_and_small_ones_always_some(api: Api) -> None:
    api.app.state.room = Room(most_bytes=100_000)
    large = {"input_reference": ("a.png", bytes(SMALL_BYTES + 200_000))}
    with api.client() as client:
        for _ in range(2):
            refused = client.post("/v1/quotes", data=BALLOON, files=large)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
            assert "Retry-After" in refused.headers
            assert client.post("/v1/quotes", json=BALLOON).status_code == 200
        held = {"input_reference": ("a.png", bytes(SMALL_BYTES + 50_000))}
        for _ in range(3):  # what one took has come back
            assert client.post("/v1/quotes", data=BALLOON, files=held).status_code == 400, "no picture"


def test_a_body_that_does_not_come_is_not_waited_for(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "WITHIN_S", 0.05)
    place = httpx.URL(api.url)
    head = f"POST /v1/quotes HTTP/1.1\r\nHost: {place.host}:{place.port}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    with socket.create_connection((place.host, place.port), timeout=30) as connection:
        connection.sendall(head.encode() + b'{"prompt": "a ')
        answer = connection.recv(10_000)
    assert answer.startswith(b"HTTP/1.1 400 ") and b"must arrive within 0.05 s" in answer

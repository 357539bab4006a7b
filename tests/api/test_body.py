"""What is large, or unpacks to something large, delays nobody else."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image, ImageOps
from python_multipart.multipart import FormParser

from api_service import BALLOON, Api
from videosvc.api.app import FEW
from videosvc.api.body import SMALL_BYTES

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

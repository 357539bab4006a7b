"""S3: one that works, and as it meets us when it is away, or allows little."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import httpx
import pytest
from moto.server import ThreadedMotoServer

from videosvc.artifacts.store import ArtifactStore


@contextmanager
def _bucket(port: int) -> Iterator[ArtifactStore]:
    s3 = fsspec.get_filesystem_class("s3")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "id")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        patch.setattr(s3, "retries", 1)  # else each of them takes seconds
        s3.clear_instance_cache()  # which knows the address of the one before
        yield ArtifactStore("s3://bucket/prefix")
        s3.clear_instance_cache()


@contextmanager
def working_bucket() -> Iterator[ArtifactStore]:
    """Empty at first. While it is open, every store of "s3://bucket/prefix" is this one, in this process's children
    too."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        port = server.get_host_and_port()[1]
        httpx.post(f"http://127.0.0.1:{port}/moto-api/reset")  # another one of this process left what it had
        with _bucket(port) as store:
            fsspec.filesystem("s3").mkdir("bucket")
            yield store
    finally:
        server.stop()


@contextmanager
def bucket_that_is_away() -> Iterator[ArtifactStore]:
    """Nobody listens where it should be."""
    with _bucket(1) as store:
        yield store


@contextmanager
def bucket_to_write_only() -> Iterator[tuple[ArtifactStore, dict[str, bytes]]]:
    """One whose key may put objects, and nothing else; and what was put."""
    objects: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            path = self.path.partition("?")[0]
            is_object = path.count("/") > 1
            if is_object:
                objects[path] = body
            self._answer(200 if is_object else 403, hashlib.md5(body).hexdigest())

        def do_GET(self) -> None:
            self._answer(403, "")

        do_HEAD = do_GET

        def _answer(self, status: int, etag: str) -> None:
            self.send_response(status)
            self.send_header("ETag", f'"{etag}"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Not on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with _bucket(server.server_port) as store:
                yield store, objects
        finally:
            server.shutdown()
            thread.join()

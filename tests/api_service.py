"""The API under uvicorn in a thread, on a real database and a real Redis; jobs are ended by hand, without a model."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from known_configs import known_configs
from videosvc.api.open import open_app
from videosvc.api.services import Services
from videosvc.config.settings import Settings
from videosvc_queue.job import Claim, Status

BALLOON = {"prompt": "a red balloon floats up over green hills", "seconds": "2", "seed": 7}
FILES = {"video.mp4": b"clip" * 1000, "thumbnail.webp": b"thumb", "spritesheet.jpg": b"sheet"}
RECEIPT = {"compute_seconds": 1.0, "charged_usd": 0.00001, "quoted_usd": 0.00005}


TLS = ssl.create_default_context()  # not used, but a client without one reads all authorities first


@dataclass(frozen=True)
class Api:
    """A running service."""

    url: str
    app: FastAPI

    @property
    def services(self) -> Services:
        services: Services = self.app.state.services
        return services

    def client(self, key: str | None = None, **options: Any) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=20, verify=TLS, **options)

    def create(self, **fields: Any) -> dict[str, Any]:
        with self.client() as client:
            answer = client.post("/v1/videos", json=BALLOON | fields)
        assert answer.status_code == 200, answer.text
        video: dict[str, Any] = answer.json()
        return video

    def claim(self) -> Claim:
        claim = self.services.store.claim(["toyworld"], "worker-1")
        assert claim is not None
        return claim

    def complete(self, folder: Path, expires_at: float | None = 4e9) -> str:
        """Ends the next job as a worker would; returns its id."""
        claim, store = self.claim(), self.services.store
        artifacts = {}
        for name, content in FILES.items():
            (folder / name).write_bytes(content)
            stored = self.services.artifacts.put(claim.job.id, claim.fence, name, folder / name)
            artifacts[name.partition(".")[0]] = stored.as_dict()
        result = {"artifacts": artifacts, "receipt": RECEIPT, "size": "64x64"}
        done = store.finish(
            claim.job.id, claim.fence, Status.COMPLETED, result=result, charge_usd=Decimal("0.00001"), compute_s=1.0,
            expires_at=expires_at,
        )  # fmt: skip
        assert done
        self.services.bus.publish(claim.job.id, "completed", {})
        return claim.job.id

    def fail(self, code: str, message: str) -> str:
        claim = self.claim()
        assert self.services.store.finish(
            claim.job.id, claim.fence, Status.FAILED, result=None, charge_usd=Decimal(0), error_code=code,
            error_message=message,
        )  # fmt: skip
        self.services.bus.publish(claim.job.id, "failed", {})
        return claim.job.id


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """The URL of the application, served by a thread."""
    started = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            started.set()

    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1)
    server = Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            assert started.wait(30)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


Start = Callable[..., "Api"]


@contextmanager
def starter(folder: Path, redis_url: str) -> Iterator[Start]:
    """Makes services on one data folder; all stop at the end."""
    with ExitStack() as stack:

        configs = known_configs(Path(stack.enter_context(TemporaryDirectory()), "configs"))

        def start(**settings: Any) -> Api:
            whole = Settings(**{"data_dir": folder, "device": "cpu", **settings})  # whatever this machine has
            app = stack.enter_context(open_app(whole, configs, redis_url))
            return Api(stack.enter_context(running(app)), app)

        yield start

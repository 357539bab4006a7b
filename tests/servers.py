"""Real PostgreSQL and Redis servers for tests, as a pytest plugin (`.ci/needs` installs PostgreSQL)."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry
from sqlalchemy import NullPool, create_engine

from videosvc_queue.redis_server import find_server
from videosvc_queue.store import Store
from videosvc_queue.tables import metadata


@dataclass
class RedisServer:
    """A server that tests may kill and start again under the same address."""

    folder: Path
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        return f"unix://{self.folder / 'redis.sock'}?db=0"

    def start(self) -> None:
        """Returns once it answers."""
        self.process = subprocess.Popen(
            [find_server(), "--port", "0", "--unixsocket", str(self.folder / "redis.sock"), "--save", "",
             "--dir", str(self.folder), "--maxmemory-policy", "noeviction"],
            stdout=subprocess.DEVNULL,
        )
        patience = Retry(ConstantBackoff(0.02), 500, supported_errors=(RedisConnectionError,))
        with redis.Redis.from_url(self.url, retry=patience) as client:
            client.ping()

    def kill(self) -> None:
        """SIGKILL; what it held is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextmanager
def _temporary_folder(owner: str | None = None) -> Iterator[Path]:
    """Short enough a path for unix sockets, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="videosvc-test-"))
    try:
        if owner is not None:
            shutil.chown(folder, owner)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One for the whole run; use `redis_url` where each test wants it empty, `own_redis` to kill it."""
    with _temporary_folder() as folder:
        server = RedisServer(folder)
        server.start()
        yield server
        server.kill()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """An empty Redis."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A running Redis of this test alone."""
    with _temporary_folder() as folder:
        server = RedisServer(folder)
        server.start()
        yield server
        server.kill()


def _postgres_programs() -> Path:
    on_path = shutil.which("initdb")
    found = [Path(on_path)] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        raise FileNotFoundError("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    return found[-1].parent


def _postgres_user() -> str | None:
    """Whom to run it as: it refuses root. None: as we are."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


@contextmanager
def running_postgres(*options: str) -> Iterator[str]:
    """Conninfo of a server's own database. `options`: settings beside the defaults, such as fsync=off.

    Raises FileNotFoundError if PostgreSQL is not installed.
    """
    programs = _postgres_programs()
    user = _postgres_user()
    identity: dict[str, Any] = {}
    if user is not None:
        identity = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
    with _temporary_folder(user) as folder:
        data, log = folder / "data", folder / "log"
        settings = " ".join(f"-c {option}" for option in ("listen_addresses=", "max_connections=200", *options))

        def run(program: str, *arguments: str) -> None:
            subprocess.run(
                [str(programs / program), "-D", str(data), *arguments],
                cwd=folder, check=True, stdout=subprocess.DEVNULL, **identity,
            )

        run("initdb", "-A", "trust", "-U", "videosvc", "-E", "UTF8", "--locale=C", "--no-sync")
        run("pg_ctl", "-w", "-o", f"-k {folder} {settings}", "-l", str(log), "start")
        try:
            yield f"host={folder} user=videosvc dbname=postgres"
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Use `postgres_url`, for a database of the test's own."""
    with running_postgres("fsync=off") as server:
        yield server


@contextmanager
def new_database(server: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    host = psycopg.conninfo.conninfo_to_dict(server)["host"]
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        yield f"postgresql+psycopg://videosvc@/{name}?host={host}"
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """SQLAlchemy URL of a new database without tables."""
    with new_database(postgres_server) as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """SQLAlchemy URL of a file that is not there yet."""
    return f"sqlite:///{tmp_path / 'new.db'}"


@pytest.fixture(params=["sqlite", "postgres"])
def empty_database_url(request: pytest.FixtureRequest) -> str:
    """A database without tables; the test runs once on each kind."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "jobs.db"
    with Store(f"sqlite:///{path}") as store:
        store.migrate()
    return path


@pytest.fixture
def migrated_sqlite_url(_sqlite_template: Path, tmp_path: Path) -> str:
    """A database of this test with tables, and nothing in them."""
    return f"sqlite:///{shutil.copy(_sqlite_template, tmp_path / 'jobs.db')}"


@pytest.fixture(scope="session")
def _shared_postgres_url(postgres_server: str) -> Iterator[str]:
    with new_database(postgres_server) as url:
        with Store(url) as store:
            store.migrate()
        yield url


@pytest.fixture
def migrated_postgres_url(_shared_postgres_url: str) -> str:
    """A database with tables, and nothing in them: emptied, as making one takes a second."""
    engine = create_engine(_shared_postgres_url, poolclass=NullPool)
    with engine.begin() as sql:
        # Whoever a test before left connected would keep its locks.
        sql.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        names = ", ".join(f'"{table.name}"' for table in metadata.sorted_tables)
        sql.exec_driver_sql(f"TRUNCATE {names} RESTART IDENTITY")
    return _shared_postgres_url


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A database with tables, and nothing in them; the test runs once on each kind."""
    url: str = request.getfixturevalue(f"migrated_{request.param}_url")
    return url


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """Empty; the test runs once on each kind of database."""
    with Store(database_url) as opened:
        yield opened

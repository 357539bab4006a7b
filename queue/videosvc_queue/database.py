"""The connection to SQL, and what a transaction is on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Self

from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, func, make_url, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

POOL = {"pool_size": 50, "max_overflow": 0}  # SQLite's; the HTTP server's threads are 40
# PostgreSQL takes 100 in all unless told otherwise, from every replica and worker: a thread may wait for its turn.
POSTGRES_POOL = {"pool_size": 5, "max_overflow": 10}
# A server that is gone without a word, or a lock that stays, must not hold a thread for ever. libpq's words; the URL's
# own go first.
POSTGRES_CONNECT: Mapping[str, str | int] = {
    "connect_timeout": 5,  # s
    "keepalives": 1,
    "keepalives_idle": 10,  # s
    "keepalives_interval": 5,  # s
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,  # ms
}
IDLE_S = 1.0  # a connection that rested longer is asked whether it lives
POSTGRES_OPTIONS = "-c lock_timeout=5s -c statement_timeout=30s"


class Database:
    """Thread-safe, not fork-safe: make one in each process. Use as a context manager, or `close`."""

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        """`url`: sqlite:////path/jobs.db or postgresql+psycopg://…; `clock`: Unix seconds.

        Raises ValueError for any other kind of database, sqlalchemy.exc.ArgumentError for no URL at all.
        """
        self._clock = clock
        self._engine = _engine(make_url(url))
        self._is_sqlite = self._engine.dialect.name == "sqlite"
        # A read needs no transaction around it: on PostgreSQL BEGIN and ROLLBACK would be two more round trips.
        self._reader = self._engine if self._is_sqlite else self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._writer = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._engine.dispose()

    def ping(self) -> None:
        """Raises sqlalchemy.exc.SQLAlchemyError if the database does not answer or has no tables yet."""
        with self._read() as sql:
            sql.execute(text("SELECT version_num FROM alembic_version"))

    def migrate(self) -> None:
        """Brings the tables up to date, however long it takes; several processes may do so at once."""
        config = Config()
        config.set_main_option("script_location", "videosvc_queue:migrations")
        with self._write(lock="migrate", patient=True) as sql:
            config.attributes["connection"] = sql
            command.upgrade(config, "head")

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self._reader.connect() as sql:
            yield sql

    @contextmanager
    def _write(
        self, *, lock: str | None = None, durable: bool = True, patient: bool = False
    ) -> Iterator[Connection]:
        """One transaction, committed at its end.

        `lock`: transactions of this name run one after the other (on SQLite all do).
        `durable=False`: a power cut may undo it, and it does not wait for the disk.
        `patient`: on PostgreSQL it is not cut off, whatever it waits for.
        """
        if self._is_sqlite:
            # Threads queue up here: SQLite's own waiting is sleeping and looking again, up to 0.1 s at a time.
            options = {"write": True, "durable": durable}
            with self._writer, self._engine.connect() as sql, sql.execution_options(**options).begin():
                yield sql
        else:
            with self._engine.begin() as sql:
                if not durable:
                    sql.execute(text("SET LOCAL synchronous_commit = off"))
                if patient:
                    sql.execute(text("SET LOCAL lock_timeout = 0"))
                    sql.execute(text("SET LOCAL statement_timeout = 0"))
                if lock is not None:
                    sql.execute(select(func.pg_advisory_xact_lock(func.hashtext(lock))))
                yield sql


def upsert(sql: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """INSERT that can have an ON CONFLICT clause."""
    return sqlite.insert(table) if sql.dialect.name == "sqlite" else postgresql.insert(table)


def _engine(url: URL) -> Engine:
    kind = url.get_backend_name()
    if kind not in ("sqlite", "postgresql"):
        raise ValueError(f"database {kind!r}: sqlite and postgresql are allowed")
    dumps = partial(json.dumps, allow_nan=False, separators=(",", ":"))
    if kind == "postgresql":
        given = url.normalized_query
        connect = {name: value for name, value in POSTGRES_CONNECT.items() if name not in given}
        connect["options"] = " ".join((POSTGRES_OPTIONS, *given.get("options", ())))
        engine = create_engine(url, json_serializer=dumps, connect_args=connect, **POSTGRES_POOL)
        event.listen(engine, "checkin", _note_use)
        event.listen(engine, "checkout", _ask_if_idle)
        return engine
    engine = create_engine(url, json_serializer=dumps, **POOL)
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _note_use(connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
    record.info["used_at"] = time.monotonic()


def _ask_if_idle(connection: DBAPIConnection, record: ConnectionPoolEntry, _: PoolProxiedConnection) -> None:
    """A server that was restarted has forgotten its connections. One used just now need not be asked, so that
    under load no query is two. Raises DisconnectionError, at which the pool opens another."""
    if time.monotonic() - record.info.get("used_at", float("inf")) < IDLE_S:
        return
    try:
        cursor = connection.cursor()
        cursor.execute("SELECT 1")
        cursor.close()
        connection.rollback()
    except Exception as error:
        raise DisconnectionError from error


def _set_up_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # the driver begins no transactions of its own: _begin_sqlite does
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout = 5000")  # ms; other processes write too
    cursor.execute("PRAGMA journal_mode = WAL")  # readers and a writer at once
    cursor.execute("PRAGMA cache_size = -256")  # KiB: each thread has a connection, and the system caches the file too
    cursor.close()


def _begin_sqlite(sql: Connection) -> None:
    options = sql.get_execution_options()
    if options.get("write"):
        # FULL syncs at every commit: a charge survives a power cut. NORMAL leaves that to the next FULL one.
        sql.exec_driver_sql(f"PRAGMA synchronous = {'FULL' if options['durable'] else 'NORMAL'}")
        sql.exec_driver_sql("BEGIN IMMEDIATE")  # a read that turns into a write could not wait for its turn

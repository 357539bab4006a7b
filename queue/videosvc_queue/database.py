"""The connection to SQL, and what a transaction is on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Self

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from videosvc_queue import postgres
from videosvc_queue.errors import LaterTables

POOL = {"pool_size": 50, "max_overflow": 0}  # the HTTP server's threads are 40


class Database:
    """Thread-safe, not fork-safe: make one in each process. Use as a context manager, or `close`."""

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        """`url`: sqlite:////path/jobs.db or postgresql+psycopg://…; `clock`: Unix seconds.

        Raises ValueError for any other kind of database, sqlalchemy.exc.ArgumentError for no URL at all.
        """
        self._clock = clock
        self._engine = _engine(make_url(url))
        self._is_sqlite = self._engine.dialect.name == "sqlite"
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
        """Brings the tables up to date, however long it takes; several processes may do so at once.

        Raises LaterTables.
        """
        config = Config()
        config.set_main_option("script_location", "videosvc_queue:migrations")
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        with self._write(lock="migrate", patient=True) as sql:
            found = MigrationContext.configure(sql).get_current_revision()
            if found is not None and found not in known:
                raise LaterTables(f"the tables are of a later version ({found}), and are not taken back: run that one")
            config.attributes["connection"] = sql
            command.upgrade(config, "head")

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self._engine.connect() as sql:
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
                postgres.begin(sql, lock, durable, patient)
                yield sql

    @contextmanager
    def _write_one(self) -> Iterator[Connection]:
        """One statement, a transaction of its own, that a power cut may undo: on PostgreSQL a single round trip."""
        with self._write(durable=False) if self._is_sqlite else self._engine.connect() as sql:
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
        return postgres.open_postgres(url, json_serializer=dumps)
    engine = create_engine(url, json_serializer=dumps, hide_parameters=True, **POOL)
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


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

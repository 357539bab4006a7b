"""PostgreSQL's connections and transactions, in few round trips: each is a wait for another process to get a core."""

from __future__ import annotations

import select
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

# PostgreSQL takes 100 in all unless told otherwise, from every replica and worker: a thread may wait for its turn. The
# one used last goes first, as it has statements prepared.
POOL: Mapping[str, Any] = {"pool_size": 5, "max_overflow": 10, "pool_use_lifo": True}
# A server that is gone without a word, or a lock that stays, must not hold a thread for ever. libpq's words; the URL's
# own go first.
CONNECT: Mapping[str, str | int] = {
    "connect_timeout": 5,  # s
    "keepalives": 1,
    "keepalives_idle": 10,  # s
    "keepalives_interval": 5,  # s
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,  # ms
}
OPTIONS = "-c lock_timeout=5s -c statement_timeout=30s"


def open_postgres(url: URL, **options: Any) -> Engine:
    """Its connections commit each statement, without waiting for the disk; `begin` is for what must last."""
    given = url.normalized_query
    connect = {name: value for name, value in CONNECT.items() if name not in given}
    connect["options"] = " ".join((OPTIONS, *given.get("options", ())))
    engine = create_engine(
        url, connect_args=connect, isolation_level="AUTOCOMMIT", hide_parameters=True, **POOL, **options
    )
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "checkout", _look)
    return engine


def begin(sql: Connection, lock: str | None, durable: bool, patient: bool) -> None:
    """What the driver leaves to us: SQLAlchemy ends it, as its own. Fields as of `Database._write`."""
    words = ["BEGIN"]
    if durable:
        words.append("SET LOCAL synchronous_commit TO DEFAULT")
    if patient:
        words += ["SET LOCAL lock_timeout = 0", "SET LOCAL statement_timeout = 0"]
    if lock is not None:
        from psycopg.sql import quote

        words.append(f"SELECT pg_advisory_xact_lock(hashtext({quote(lock)}))")
    with _wrapped(sql):
        # All at once, which a statement of SQLAlchemy's cannot be, nor one that is prepared.
        cursor: Any = sql.connection.cursor()
        cursor.execute("; ".join(words), prepare=False)


@contextmanager
def together(sql: Connection) -> Iterator[None]:
    """Statements within are sent one after the other, and their answers read at the end: they may return no rows."""
    if sql.dialect.name == "sqlite":
        yield
        return
    connection: Any = sql.connection.dbapi_connection
    with _wrapped(sql), connection.pipeline():
        yield


@contextmanager
def _wrapped(sql: Connection) -> Iterator[None]:
    """What psycopg raises past SQLAlchemy, in SQLAlchemy's words."""
    dbapi, connection = sql.dialect.dbapi, sql.connection
    assert dbapi is not None
    try:
        yield
    except dbapi.Error as error:
        lost = sql.dialect.is_disconnect(error, connection, None)
        if lost:
            sql.invalidate(error)
        raise DBAPIError.instance(
            None, None, error, dbapi.Error, connection_invalidated=lost, dialect=sql.dialect
        ) from error


def _set_up(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # Heartbeats and bells may be lost in a power cut, and nobody waits for them.
    connection.cursor().execute("SET synchronous_commit = off")


def _look(connection: Any, _: ConnectionPoolEntry, __: PoolProxiedConnection) -> None:
    """A server that was restarted has closed its connections, which shows without asking it: something is there to
    read. Raises DisconnectionError, at which the pool opens another."""
    if connection.closed:
        raise DisconnectionError
    poll = select.poll()  # select() knows only the first 1024 files
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        raise DisconnectionError

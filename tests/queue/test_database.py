from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import psycopg
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError

from eventually import eventually
from videosvc_queue.job import Beat, NewJob
from videosvc_queue.store import Store
from videosvc_queue.tenants import TenantLimits


def hasty(url: str) -> str:
    """What a URL says itself goes before the service's own."""
    return f"{url}&options={quote('-c lock_timeout=50ms')}"


def conninfo(url: str) -> str:
    parts = make_url(url)
    return f"host={parts.query['host']} user={parts.username} dbname={parts.database}"


def end_connections(url: str) -> None:
    """All but the asking one, and waits until they are gone."""
    with psycopg.connect(conninfo(url), autocommit=True) as other:
        ended = other.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            "AND datname = current_database()"
        ).fetchall()
    assert ended


def test_a_lock_that_stays_is_an_error(migrated_postgres_url: str) -> None:
    with psycopg.connect(conninfo(migrated_postgres_url)) as other, Store(hasty(migrated_postgres_url)) as store:
        other.execute("LOCK TABLE tenants")
        with pytest.raises(OperationalError, match="lock timeout"):
            store.tenant("ann")
        other.rollback()
        assert store.tenant("ann") is None


def test_migrations_wait_for_each_other(postgres_url: str) -> None:
    with (
        psycopg.connect(conninfo(postgres_url)) as other,
        ThreadPoolExecutor(1) as thread,
        Store(hasty(postgres_url)) as store,
    ):
        other.execute("SELECT pg_advisory_xact_lock(hashtext('migrate'))")
        migration = thread.submit(store.migrate)
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND now() - query_start > '0.2 s'"
        with psycopg.connect(conninfo(postgres_url), autocommit=True) as watcher:
            eventually(lambda: migration.done() or watcher.execute(waiting).fetchone())
        other.rollback()
        migration.result()
        store.ping()


def test_a_connection_that_died_while_it_rested_is_replaced(migrated_postgres_url: str) -> None:
    with Store(migrated_postgres_url) as store:
        store.ping()
        end_connections(migrated_postgres_url)
        store.ping()


def test_a_watch_gets_over_the_loss_of_its_connection(
    migrated_postgres_url: str, new_job: Callable[..., NewJob]
) -> None:
    with Store(migrated_postgres_url) as store:
        store.submit(new_job(), TenantLimits())
        claim = store.claim(["toy"], "worker-1")
        assert claim is not None
        with store.watch(claim.job.id, claim.fence) as watch:
            assert watch.check() is Beat.CONTINUE
            end_connections(migrated_postgres_url)
            with pytest.raises(OperationalError):
                watch.check()
            assert watch.check() is Beat.CONTINUE


def test_errors_tell_nothing_of_what_tenants_wrote(store: Store) -> None:
    with pytest.raises(DBAPIError) as caught, store._engine.begin() as sql:
        sql.execute(text("SELECT * FROM nowhere WHERE prompt = :prompt"), {"prompt": "a red balloon"})
    assert "nowhere" in str(caught.value) and "balloon" not in str(caught.value)

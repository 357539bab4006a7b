from __future__ import annotations

import multiprocessing
from decimal import Decimal

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from videosvc_queue.errors import LaterTables
from videosvc_queue.store import Store
from videosvc_queue.tables import metadata


def test_migrations_make_the_tables(empty_database_url: str) -> None:
    with Store(empty_database_url) as store:
        store.migrate()
    engine = create_engine(empty_database_url)
    with engine.connect() as sql:
        assert compare_metadata(MigrationContext.configure(sql), metadata) == []
    engine.dispose()


def test_migrating_again_keeps_what_is_there(store: Store) -> None:
    _, key = store.create_key("ann", "laptop")
    store.migrate()
    assert store.list_keys() == [key]


def test_money_from_before_prepaid_balances_stays(empty_database_url: str) -> None:
    engine = create_engine(empty_database_url)
    config = Config()
    config.set_main_option("script_location", "videosvc_queue:migrations")
    with engine.begin() as sql:
        config.attributes["connection"] = sql
        command.upgrade(config, "0004")
        names = "tenant, job_id, kind, amount_usd, compute_s, created_at, day"
        sql.execute(text(f"INSERT INTO ledger ({names}) VALUES ('ann', 'job_1', 'charge', 20000001, 2.0, 5.0, 'day')"))
        limits = "max_concurrent, max_queued, per_minute, weight"
        sql.execute(text(f"INSERT INTO tenants (name, {limits}, webhook_secret, created_at) "
                         "VALUES ('ann', 1, 1, 1, 1.0, 'whsec_x', 5.0)"))  # fmt: skip
    engine.dispose()
    with Store(empty_database_url) as store:
        store.migrate()
        assert store.balance("ann") is None
        assert store.credit("ann", Decimal("0.05"), "invoice 1")
        balance = store.balance("ann")
        assert balance is not None
        assert balance.usd == Decimal("0.029999999")


def _migrate(url: str) -> None:
    with Store(url) as store:
        store.migrate()
        store.create_key("ann", "laptop")


def test_processes_that_start_at_once_all_get_their_tables(empty_database_url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(3) as pool:
        pool.map(_migrate, [empty_database_url] * 3, chunksize=1)
    with Store(empty_database_url) as store:
        assert len(store.list_keys()) == 3


def test_ping_refuses_a_database_without_tables(empty_database_url: str) -> None:
    with Store(empty_database_url) as store:
        with pytest.raises(SQLAlchemyError):
            store.ping()
        store.migrate()
        store.ping()


def test_tables_of_a_later_version_are_left_alone(store: Store, database_url: str) -> None:
    engine = create_engine(database_url)
    with engine.begin() as sql:
        sql.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(LaterTables, match=r"of a later version \(9999\)"):
        store.migrate()
    with engine.begin() as sql:
        assert sql.scalar(text("SELECT version_num FROM alembic_version")) == "9999"
    engine.dispose()


def test_only_sqlite_and_postgresql() -> None:
    with pytest.raises(ValueError, match="database 'mysql': sqlite and postgresql are allowed"):
        Store("mysql://localhost/jobs")

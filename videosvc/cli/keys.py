"""`videosvc keys`: API keys, made on the machine of the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from videosvc.config.settings import config_dir, load_settings
from videosvc.errors import GenerationError, UserError

if TYPE_CHECKING:
    from videosvc_queue.store import Store

app = typer.Typer(help="API keys: create, list, revoke.", no_args_is_help=True)

Tenant = Annotated[str, typer.Option(help="Whose key it is.", show_default=False)]


@app.command()
def create(
    tenant: Tenant,
    name: Annotated[str, typer.Option(help="To tell it from others.")] = "",
) -> None:
    """Make a key. It is shown once, and kept as a hash only."""
    if not tenant.strip():
        raise UserError("tenant: must not be empty", param="tenant")
    with _store() as store:
        secret, row = store.create_key(tenant, name)
    typer.echo(f"{row.id} for tenant {tenant}; it is shown this once:", err=True)
    typer.echo(secret)


@app.command("list")
def list_keys(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.", show_default=False)] = None,
) -> None:
    """List the keys, revoked ones too."""
    table = Table("id", "tenant", "name", "begins with", "created", "revoked", box=None, pad_edge=False)
    with _store() as store:
        for row in store.list_keys(tenant):
            table.add_row(row.id, row.tenant, row.name, row.prefix, _day(row.created_at), _day(row.revoked_at))
    Console().print(table)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="An id of `videosvc keys list`.")],
    tenant: Annotated[str | None, typer.Option(help="Only if it is this tenant's.", show_default=False)] = None,
) -> None:
    """End a key; servers that know it forget it within seconds."""
    with _store() as store:
        mine = any(row.id == key_id for row in store.list_keys(tenant))
        if not mine or not store.revoke_key(key_id):
            raise UserError(f"ID: there is no key {key_id!r} in use", param="key_id")
    typer.echo(f"{key_id} is revoked")


@contextmanager
def _store() -> Iterator[Store]:
    from sqlalchemy.exc import SQLAlchemyError

    from videosvc_queue.store import Store

    settings = load_settings(config_dir())
    if settings.database_url.startswith("sqlite"):
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with Store(settings.database_url) as store:
            store.migrate()
            yield store
    except SQLAlchemyError as error:
        raise GenerationError(f"the database: {error}") from error


def _day(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")

"""`videosvc keys`: API keys and their tenants' money, on the machine of the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Column, Table

from videosvc.cli.tables import print_table
from videosvc.config.settings import config_dir, load_settings
from videosvc.errors import UserError

if TYPE_CHECKING:
    from videosvc_queue.balances import Balance
    from videosvc_queue.store import Store

app = typer.Typer(help="API keys: create, list, revoke; what tenants pay in advance.", no_args_is_help=True)

Tenant = Annotated[str, typer.Option(help="Whose key it is.", show_default=False)]


@app.command()
def create(
    tenant: Tenant,
    name: Annotated[str, typer.Option(help="To tell it from others.")] = "",
    max_concurrent: Annotated[int | None, typer.Option(help="Jobs in progress at once.")] = None,
    max_queued: Annotated[int | None, typer.Option(help="Jobs waiting.")] = None,
    per_minute: Annotated[int | None, typer.Option(help="Jobs submitted a minute.")] = None,
    usd_per_day: Annotated[float | None, typer.Option(help="USD a day, held and charged.")] = None,
    weight: Annotated[float | None, typer.Option(help="Share of the workers against other tenants'.")] = None,
    prepaid: Annotated[bool | None, typer.Option(help="Jobs must fit into the credits.", show_default=False)] = None,
) -> None:
    """Make a key. It is shown once, and kept as a hash only. Limits given are the tenant's from now on."""
    if not tenant.strip():
        raise UserError("tenant: must not be empty", param="tenant")
    limits = {
        "max_concurrent": max_concurrent,
        "max_queued": max_queued,
        "per_minute": per_minute,
        "weight": weight,
        "prepaid": prepaid,
    }
    given: dict[str, Any] = {field: value for field, value in limits.items() if value is not None}
    if usd_per_day is not None:
        given["usd_per_day"] = Decimal(repr(usd_per_day))
    from videosvc_queue.tenants import TenantLimits

    with _store() as store:
        try:
            if given:
                known = store.tenant(tenant)
                before = TenantLimits() if known is None else known.limits
                store.upsert_tenant(tenant, replace(before, **given))
            secret, row = store.create_key(tenant, name)
        except ValueError as error:
            raise UserError(str(error), param=str(error).partition(":")[0]) from error
    typer.echo(f"{row.id} for tenant {tenant}; it is shown this once:", err=True)
    typer.echo(secret)


@app.command("list")
def list_keys(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.", show_default=False)] = None,
) -> None:
    """List the keys, revoked ones too."""
    id_column = Column("id", no_wrap=True)  # whole on a narrow terminal too: `revoke` wants it
    columns = (id_column, "tenant", "name", "begins with", "created", "revoked", "balance")
    table = Table(*columns, box=None, pad_edge=False)
    with _store() as store:
        rows = store.list_keys(tenant)
        balances = {name: store.balance(name) for name in {row.tenant for row in rows}}
        for row in rows:
            days = _day(row.created_at), _day(row.revoked_at)
            table.add_row(row.id, row.tenant, row.name, row.prefix, *days, _usd(balances[row.tenant]))
    print_table(table)


@app.command()
def revoke(
    key_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="An id of `videosvc keys list`.", show_default=False)
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="All its keys, or ID if it is one.", show_default=False)] = None,
) -> None:
    """End a key, or all of a tenant; servers that know them forget them within seconds."""
    if key_id is None and tenant is None:
        raise UserError("ID: name a key, or a --tenant whose keys are all to end", param="key_id")
    with _store() as store:
        wanted = [row.id for row in store.list_keys(tenant) if key_id in (None, row.id)]
        revoked = [each for each in wanted if store.revoke_key(each)]
    if not revoked and key_id is not None:
        raise UserError(f"ID: there is no key {key_id!r} in use", param="key_id")
    if not revoked:
        raise UserError(f"tenant: {tenant!r} has no key in use", param="tenant")
    for each in revoked:
        typer.echo(f"{each} is revoked")


@app.command()
def credit(
    tenant: Annotated[str, typer.Option(help="Who has paid.", show_default=False)],
    usd: Annotated[str, typer.Option(help="How much, in USD.", show_default=False)],
    reference: Annotated[str, typer.Option(help="What was paid, such as the invoice.", show_default=False)],
) -> None:
    """Book what a tenant paid in advance. From the first time on its jobs must fit into its balance.

    The same reference again adds nothing, so a command that failed halfway may be repeated.
    """
    try:
        amount = Decimal(usd)
    except InvalidOperation:
        raise UserError(f"usd: {usd!r} is no amount, such as 12.50", param="usd") from None
    with _store() as store:
        try:
            added = store.credit(tenant, amount, reference)
        except LookupError as error:
            raise UserError(f"tenant: there is no tenant {tenant!r}; make it a key first", param="tenant") from error
        except ValueError as error:
            raise UserError(str(error), param=str(error).partition(":")[0]) from error
        balance = store.balance(tenant)
    what = f"{usd} USD are booked" if added else f"{reference} was booked before, nothing is added"
    typer.echo(f"{what}; the balance of {tenant} is {_usd(balance)} USD")


@contextmanager
def _store() -> Iterator[Store]:
    from videosvc.migrate import migrate
    from videosvc_queue.store import Store

    settings = load_settings(config_dir())
    if settings.database_url.startswith("sqlite"):
        settings.make_data_dir()
    with Store(settings.database_url) as store:
        migrate(store)
        yield store


def _usd(balance: Balance | None) -> str:
    return "" if balance is None else f"{balance.usd.normalize():f}"


def _day(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")

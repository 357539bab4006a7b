"""Quotes of this machine, kept in the data folder while they bind: `generate --quote-id` takes one up."""

from __future__ import annotations

import re
import reprlib
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from videosvc.config.json_file import read_json_file, write_json_file
from videosvc.config.toml_file import Section
from videosvc.engine.picture import Picture
from videosvc.errors import UserError
from videosvc.pricing.quote import LIFETIME_S, Quote

ID = re.compile(r"quote_[A-Za-z0-9_-]{24}")


class KeptQuote(Section):
    asked: dict[str, str]  # the options that were given
    quote: dict[str, Any]  # `Quote.fields`


def asked_for(**options: object) -> dict[str, str]:
    """The options that were given, as text."""
    return {field: str(value) for field, value in options.items() if value is not None}


def keep_quote(data_dir: Path, quote: Quote, asked: dict[str, str]) -> None:
    """Removes those that have expired. Raises OSError."""
    folder = data_dir / "quotes"
    folder.mkdir(mode=0o700, exist_ok=True)  # a quote has its prompt in it
    kept = KeptQuote(asked=asked, quote=quote.fields())
    write_json_file(folder / f"{quote.id}.json", kept)
    for path in folder.glob("quote_*.json"):
        with suppress(OSError):
            if path.stat().st_mtime + LIFETIME_S < time.time():
                path.unlink()


def take_quote(
    data_dir: Path, quote_id: str, asked: dict[str, str], picture: Picture | None, device_name: str
) -> Quote:
    """What was quoted for this device, if the picture and all options given again are the same.

    Raises UserError naming the field.
    """
    path = data_dir / "quotes" / f"{quote_id}.json"
    kept = read_json_file(path, KeptQuote) if ID.fullmatch(quote_id) else None
    if kept is None:
        message = f"quote_id: there is no quote {reprlib.repr(quote_id)} on this machine; `videosvc quote` makes one"
        raise UserError(message, param="quote_id")
    for field, value in asked.items():
        before = kept.asked.get(field)
        if before is None or not _same(value, before):
            quoted = "it was not given" if before is None else f"{reprlib.repr(before)} was quoted"
            raise UserError(f"{field}: {quoted}; leave it so, or ask for a new quote", param=field)
    try:
        quote = Quote.parse(kept.quote)
        if not quote.price_usd.is_finite():
            raise ValueError(quote.price_usd)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise UserError("quote_id: this quote is of another version; ask for a new one", param="quote_id") from error
    if quote.expires_at <= time.time():
        raise UserError("quote_id: this quote has expired; ask for a new one", param="quote_id")
    if quote.plan.input_reference != (None if picture is None else picture.digest):
        message = "input_reference: give what was quoted, the same picture or none, or ask for a new quote"
        raise UserError(message, param="input_reference")
    if quote.rate.device != device_name:
        message = f"quote_id: this quote is for {quote.rate.device}, and this is {device_name}; ask for a new one"
        raise UserError(message, param="quote_id")
    return quote


def _same(one: str, other: str) -> bool:
    try:
        return one == other or float(one) == float(other)
    except ValueError:
        return False

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
from videosvc.pricing.quote import Quote

ID = re.compile(r"quote_[A-Za-z0-9_-]{24}")


class KeptQuote(Section):
    expires_at: float  # Unix seconds
    asked: dict[str, str]  # the options that were given
    quote: dict[str, Any]  # `Quote.fields`


def asked_for(**options: object) -> dict[str, str]:
    """The options that were given, as text."""
    return {field: str(value) for field, value in options.items() if value is not None}


def keep_quote(data_dir: Path, quote: Quote, asked: dict[str, str]) -> None:
    """Removes those that have expired. Raises OSError."""
    folder = data_dir / "quotes"
    kept = KeptQuote(expires_at=quote.expires_at, asked=asked, quote=quote.fields())
    write_json_file(folder / f"{quote.id}.json", kept)
    for path in folder.glob("quote_*.json"):
        other = read_json_file(path, KeptQuote)
        if other is None or other.expires_at <= time.time():
            with suppress(OSError):
                path.unlink()


def take_quote(data_dir: Path, quote_id: str, asked: dict[str, str], picture: Picture | None) -> Quote:
    """What was quoted, if the picture and all options given again are the same. Raises UserError naming the field."""
    path = data_dir / "quotes" / f"{quote_id}.json"
    kept = read_json_file(path, KeptQuote) if ID.fullmatch(quote_id) else None
    if kept is None:
        message = f"quote_id: there is no quote {reprlib.repr(quote_id)} on this machine; `videosvc quote` makes one"
        raise UserError(message, param="quote_id")
    if kept.expires_at <= time.time():
        raise UserError("quote_id: this quote has expired; ask for a new one", param="quote_id")
    for field, value in asked.items():
        before = kept.asked.get(field)
        if value != before:
            quoted = "it was not given" if before is None else f"{reprlib.repr(before)} was quoted"
            raise UserError(f"{field}: {quoted}; leave it so, or ask for a new quote", param=field)
    try:
        quote = Quote.parse(kept.quote)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise UserError("quote_id: this quote is of another version; ask for a new one", param="quote_id") from error
    if quote.plan.input_reference != (None if picture is None else picture.digest):
        message = "input_reference: give what was quoted, the same picture or none, or ask for a new quote"
        raise UserError(message, param="input_reference")
    return quote

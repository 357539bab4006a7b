"""Numbers in messages: short, and such that what is told as enough is enough."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

DIGITS = 3


def at_least(value: float) -> str:
    """Three digits, rounded up: whoever allows so much is not refused again."""
    return _told(value, ROUND_CEILING)


def at_most(value: float) -> str:
    """Three digits, rounded down: whoever asks for no more is not refused again."""
    return _told(value, ROUND_FLOOR)


def _told(value: float, rounding: str) -> str:
    exact = Decimal(repr(value))
    rounded = exact.quantize(Decimal(1).scaleb(exact.adjusted() + 1 - DIGITS), rounding)
    return f"{float(rounded):g}"

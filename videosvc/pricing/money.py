"""Dollars as Decimal, to nine digits after the point: what the ledger's columns hold."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

SMALLEST_USD = Decimal("0.000000001")


def usd_up(amount: Decimal) -> Decimal:
    """Rounded up: what is quoted must not be a trifle short of what will be charged."""
    return amount.quantize(SMALLEST_USD, ROUND_CEILING)


def usd_down(amount: Decimal) -> Decimal:
    """Rounded down: of a cap, what is beyond the last digit cannot be spent."""
    return amount.quantize(SMALLEST_USD, ROUND_FLOOR)


def usd(amount: Decimal) -> Decimal:
    """Rounded to the nearest: what is charged or saved."""
    return amount.quantize(SMALLEST_USD, ROUND_HALF_EVEN)

"""Money in SQL."""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import BigInteger, Dialect
from sqlalchemy.types import TypeDecorator

PLACES = 9


class Usd(TypeDecorator[Decimal]):
    """USD as whole billionths: exact on every database, where SQLite would make floats of NUMERIC. Up to 9.2e9 USD."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:
        return None if value is None else round(value.scaleb(PLACES))

    def process_result_value(self, value: int | Decimal | None, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value).scaleb(-PLACES)

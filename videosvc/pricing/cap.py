"""What a job may cost at most, and what is to be done when it would cost more."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Literal, cast, get_args

from videosvc.errors import UserError
from videosvc.pricing.money import SMALLEST_USD, usd_down

OnCap = Literal["degrade", "reject"]

MAX_USD = Decimal(1_000_000)
MAX_COMPUTE_S = 1e7  # four months: beyond it a cap is a slip of the keyboard


@dataclass(frozen=True, slots=True)
class Cap:
    """None is no limit of the caller's; the preset's own counts beside it."""

    max_cost_usd: Decimal | None = None
    max_compute_s: float | None = None
    on_cap: OnCap = "degrade"  # trade quality for it, or refuse

    @property
    def is_given(self) -> bool:
        return self.max_cost_usd is not None or self.max_compute_s is not None

    @property
    def trades(self) -> bool:
        """Whether what is made depends on how high it is."""
        return self.is_given and self.on_cap == "degrade"

    @staticmethod
    def parse(
        max_cost_usd: float | str | Decimal | None = None,
        max_compute_seconds: float | str | None = None,
        on_cap: str = "degrade",
    ) -> Cap:
        """Checks what a caller gave. Raises UserError naming max_cost_usd, max_compute_seconds or on_cap."""
        if on_cap not in get_args(OnCap):
            raise UserError(f"on_cap: {on_cap!r} must be degrade or reject", param="on_cap")
        return Cap(_usd(max_cost_usd), _seconds(max_compute_seconds), cast(OnCap, on_cap))


def _usd(given: float | str | Decimal | None) -> Decimal | None:
    if given is None:
        return None
    try:
        amount = Decimal(str(given).strip())
    except InvalidOperation:
        amount = Decimal("NaN")
    # The smallest is what the ledger can hold; one of 1e-999999999 would also be a gigabyte to write out.
    if not (amount.is_finite() and SMALLEST_USD <= amount <= MAX_USD):
        places = f"; {-SMALLEST_USD.adjusted()} decimals count"
        message = f"max_cost_usd: {str(given)[:40]} must be more than 0 and at most {MAX_USD} USD{places}"
        raise UserError(message, param="max_cost_usd")
    return usd_down(amount)


def _seconds(given: float | str | None) -> float | None:
    if given is None:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and 0 < seconds <= MAX_COMPUTE_S):
        message = f"max_compute_seconds: {str(given)[:40]} must be more than 0 and at most {MAX_COMPUTE_S:g}"
        raise UserError(message, param="max_compute_seconds")
    return seconds

"""What a tuned preset is to be: the cheapest that is good enough, or the best that is cheap enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, cast, get_args

from videosvc.errors import UserError
from videosvc.pricing.finding import Finding
from videosvc.pricing.options import frontier
from videosvc.pricing.told import at_least

AT_LEAST = 0.98
Yardstick = Literal["reference", "best"]


@dataclass(frozen=True, slots=True)
class Target:
    """Either a share or a price is set."""

    at_least: float | None  # share of a quality
    under_usd: Decimal | None  # a second of the clip
    of: Yardstick = "reference"  # whose quality: the reference's, or the best of what is chosen from

    @staticmethod
    def parse(at_least: float | None, under: float | None, of: str = "reference") -> Target:
        """Neither share nor price is the cheapest at 98 %. Raises UserError (at_least, under, of)."""
        if of not in get_args(Yardstick):
            raise UserError(f"of: {of!r} is not one of {', '.join(get_args(Yardstick))}", param="of")
        if at_least is not None and under is not None:
            raise UserError("under: goes not together with --at-least; choose one", param="under")
        if under is not None:
            if not (math.isfinite(under) and under > 0):
                raise UserError(f"under: {under:g} must be more than 0 USD a second of the clip", param="under")
            return Target(None, Decimal(repr(under)))
        share = AT_LEAST if at_least is None else at_least
        if not 0 < share <= 1:
            raise UserError(f"at_least: {share:g} must be more than 0 and at most 1, such as 0.98", param="at_least")
        return Target(share, None, cast(Yardstick, of))

    def choose(self, swept: Sequence[Finding], reference: Finding) -> Finding:
        """One of the frontier of `swept`. Raises UserError naming the best that can be had."""
        offers = frontier(swept)
        if self.under_usd is not None:
            affordable = [offer for offer in offers if offer.price_usd <= self.under_usd]
            if not affordable:
                raise UserError(f"under: nothing is so cheap; the cheapest is {_said(offers[0])}", param="under")
            return affordable[-1]
        assert self.at_least is not None
        against = reference.quality if self.of == "reference" else offers[-1].quality
        needed = self.at_least * against
        good = [offer for offer in offers if offer.quality >= needed]
        if not good:
            says = f"at_least: nothing reaches {needed:.3f}, {self} ({against:.3f})"
            raise UserError(f"{says}; the best is {_said(offers[-1])}", param="at_least")
        return good[0]

    def __str__(self) -> str:
        if self.under_usd is not None:
            return f"under {self.under_usd:f} USD a second"
        return f"{self.at_least:.4g} of the {self.of}'s quality"


def _said(offer: Finding) -> str:
    return f"{offer.quality:.3f} at {at_least(float(offer.price_usd))} USD a second ({offer.setting})"

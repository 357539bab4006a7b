"""What a second of a device is sold at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True)
class Rate:
    """A device's hour, the preset's margin on it, and the tier's multiplier on both."""

    device: str
    usd_per_hour: Decimal
    watts: float
    margin: Decimal  # share of the cost added to it
    tier: str
    multiplier: Decimal

    def price(self, compute_s: float) -> Decimal:
        """USD for so many seconds of compute, not rounded."""
        hours = Decimal(repr(compute_s)) / SECONDS_PER_HOUR
        return hours * self.usd_per_hour * (1 + self.margin) * self.multiplier

    def fields(self) -> dict[str, Any]:
        """Everything in it, for JSON; money as text. `parse` makes the same rate of it."""
        return {
            "device": self.device,
            "usd_per_hour": str(self.usd_per_hour),
            "watts": self.watts,
            "margin": str(self.margin),
            "tier": self.tier,
            "multiplier": str(self.multiplier),
        }

    @staticmethod
    def parse(values: Mapping[str, Any]) -> Rate:
        """Reads what `fields` gave. Raises KeyError or ValueError."""
        return Rate(
            device=str(values["device"]),
            usd_per_hour=Decimal(values["usd_per_hour"]),
            watts=float(values["watts"]),
            margin=Decimal(values["margin"]),
            tier=str(values["tier"]),
            multiplier=Decimal(values["multiplier"]),
        )

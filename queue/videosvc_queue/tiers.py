"""Tiers: how much a job's answer is in a hurry."""

from __future__ import annotations

from enum import StrEnum


class Tier(StrEnum):
    """Every interactive job runs before any batch job of its route."""

    INTERACTIVE = "interactive"
    BATCH = "batch"

    @property
    def priority(self) -> int:
        """Celery's on Redis: 0 goes first. SQL orders by the same number."""
        return {Tier.INTERACTIVE: 0, Tier.BATCH: 5}[self]

"""Jobs to submit, and how a worker would run them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from clock import Clock
from videosvc_queue.job import NewJob
from videosvc_queue.tiers import Tier


@pytest.fixture
def clock() -> Clock:
    return Clock(1_800_000_000.0)  # 2027-01-15 08:00 UTC


@pytest.fixture
def new_job() -> Callable[..., NewJob]:
    """Makes a job; what is not named is of no matter."""
    numbers = itertools.count()

    def make(**fields: Any) -> NewJob:
        ordinary: dict[str, Any] = {
            "id": f"job_{next(numbers):04}",
            "tenant": "ann",
            "tier": Tier.INTERACTIVE,
            "route": "toy",
            "payload": {"prompt": "a red ball"},
            "predicted_s": 10.0,
            "hold_usd": Decimal("0.03"),
            "max_run_s": 60.0,
        }
        return NewJob(**(ordinary | fields))

    return make

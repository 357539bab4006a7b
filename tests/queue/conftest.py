"""Jobs to submit, and a bus to tell of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from typing import Any

import pytest

from clock import Clock
from videosvc_queue.events import EventBus
from videosvc_queue.job import Job, NewJob
from videosvc_queue.store import Store
from videosvc_queue.tenants import TenantLimits
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


@pytest.fixture
def bus(redis_url: str) -> Iterator[EventBus]:
    with closing(EventBus(redis_url)) as bus:
        yield bus


@pytest.fixture
def submit(store: Store, new_job: Callable[..., NewJob]) -> Callable[..., Job]:
    """Submits such a job; returns its row."""
    return lambda **fields: store.submit(new_job(**fields), TenantLimits())[0]

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from videosvc_queue.job import ALLOWED, NewJob, Status
from videosvc_queue.tiers import Tier


def test_every_status_has_its_transitions_and_ends_have_none() -> None:
    assert set(ALLOWED) == set(Status)
    ends = {Status.COMPLETED, Status.FAILED, Status.CANCELLED}
    assert {status for status in Status if status.terminal} == ends
    assert ALLOWED[Status.QUEUED] == {Status.IN_PROGRESS, Status.CANCELLED}


def test_interactive_goes_before_batch() -> None:
    assert sorted(Tier, key=lambda tier: tier.priority) == [Tier.INTERACTIVE, Tier.BATCH]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"predicted_s": 0.0}, "predicted_s 0.0 must be more than 0"),
        ({"predicted_s": float("nan")}, "predicted_s nan must be more than 0"),
        ({"predicted_s": float("inf")}, "predicted_s inf must be more than 0"),
        ({"hold_usd": Decimal("-0.01")}, "hold_usd -0.01 must be at least 0"),
        ({"idempotency_key": "again"}, "idempotency_key and body_hash go together"),
    ],
)
def test_a_new_job_that_cannot_be_is_refused(
    new_job: Callable[..., NewJob], fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        new_job(**fields)

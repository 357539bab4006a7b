"""A job, the states it passes through, and what is asked of a worker that runs it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any

from videosvc_queue.tiers import Tier


class Status(StrEnum):
    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        return not ALLOWED[self]


# The one table of transitions; whoever writes a status asks it. IN_PROGRESS -> QUEUED: given back, or its worker lost.
ALLOWED: Mapping[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.IN_PROGRESS, Status.CANCELLED}),
    Status.IN_PROGRESS: frozenset({Status.QUEUED, Status.COMPLETED, Status.FAILED, Status.CANCELLED}),
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Job:
    """One row of the queue as it was when read. Times are Unix seconds."""

    id: str  # given by the caller
    tenant: str  # who pays
    tier: Tier  # how much of a hurry it is in
    route: str  # which workers can take it
    status: Status  # where it stands; ALLOWED says where it may go from there
    payload: dict[str, Any]  # JSON: what to run; never changed after submit
    detail: dict[str, Any]  # JSON: what its worker says of the run as it is now; `beat` and `finish` replace it
    result: dict[str, Any] | None  # JSON, from `finish`
    error_code: str | None  # of a failed job, for programs
    error_message: str | None  # of a failed job, for people
    predicted_s: float  # compute it is expected to take; fair share and ETA build on it
    hold_usd: Decimal  # quoted price, held until the end; the most it is charged
    max_run_s: float  # hard wall limit of one attempt
    progress: int  # 0 to 100
    attempts: int  # times a worker took it
    fence: int  # one more whenever a worker takes or loses it; writes under an older one are refused
    wasted_s: float  # compute of earlier attempts that has to be done again
    created_at: float  # submitted
    virtual_start: float  # its turn within its tier, lowest first: see fair_share.py
    started_at: float | None  # first attempt
    completed_at: float | None  # terminal, whichever way
    expires_at: float | None  # its artifacts may go then
    cancel_requested: bool  # its worker stops at the next step
    worker: str | None  # who runs it, or ran it last
    webhook_url: str | None  # told of the end
    metadata: dict[str, str]  # the user's own
    removed_at: float | None  # its artifacts are gone since


@dataclass(frozen=True, slots=True)
class NewJob:
    """What `Store.submit` takes; fields as in Job."""

    id: str
    tenant: str
    tier: Tier
    route: str
    payload: dict[str, Any]
    predicted_s: float
    hold_usd: Decimal
    max_run_s: float
    webhook_url: str | None = None
    metadata: Mapping[str, str] | None = None
    idempotency_key: str | None = None  # the tenant's; the same one with the same body gives the same job for 24 hours
    body_hash: str | None = None  # of the request; goes with idempotency_key

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if not 0 < self.predicted_s < math.inf:  # a job that takes nothing would have no place in fair order
            raise ValueError(f"predicted_s {self.predicted_s} must be more than 0")
        if not self.hold_usd >= 0:
            raise ValueError(f"hold_usd {self.hold_usd} must be at least 0")
        if (self.idempotency_key is None) != (self.body_hash is None):
            raise ValueError("idempotency_key and body_hash go together")


@dataclass(frozen=True, slots=True)
class Claim:
    """A job taken; `fence` is shown with every later write."""

    job: Job
    fence: int
    losses: int = 0  # attempts before this one that came to nothing


class Beat(Enum):
    """What a worker is to do with its job."""

    CONTINUE = "continue"
    CANCEL = "cancel"  # stop at this step, then `finish` as CANCELLED with the charge for what ran
    LOST = "lost"  # it is another's by now, or at its end: stop, write nothing


@dataclass(frozen=True, slots=True)
class Ahead:
    """What runs before a queued job, of its route and of what else the workers of that take."""

    jobs: int  # queued before it, in fair order
    compute_s: float  # predicted for those, and what is left of the running ones
    workers: int  # live ones of the route; 0: nobody works on it

    @property
    def wait_s(self) -> float:
        """As if the workers there are shared it out evenly; as if there was one if there is none."""
        return self.compute_s / max(1, self.workers)

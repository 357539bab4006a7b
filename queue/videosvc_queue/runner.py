"""One job from claim to end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from sqlalchemy.exc import OperationalError

from videosvc_queue.context import Cancelled, Context, GiveBack, LeaseLost, MakeWay
from videosvc_queue.drain import Drain
from videosvc_queue.events import EventBus
from videosvc_queue.heartbeat import heartbeat
from videosvc_queue.job import Claim, Job, Status
from videosvc_queue.lease import MAX_LOSSES, Fault
from videosvc_queue.nudges import Nudges
from videosvc_queue.patience import patiently, rest_s
from videosvc_queue.store import Store

log = logging.getLogger(__name__)

BEAT_S = 5.0  # a sixth of the lease

RAISED = Fault("internal_error", "the job failed while it ran")  # what went wrong is for the log


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended, and what it costs. All but `on_end` is written in one transaction."""

    status: Status  # COMPLETED, FAILED or CANCELLED
    charge_usd: Decimal  # at most what is held
    compute_s: float = 0.0  # device-seconds used, for `usage`
    result: dict[str, Any] = field(default_factory=dict)  # JSON
    detail: dict[str, Any] | None = None  # JSON; None leaves it as it is
    error_code: str | None = None
    error_message: str | None = None
    expires_at: float | None = None  # Unix seconds: artifacts may go then
    on_end: Callable[[], None] | None = None  # called once that is written: the end stands. Raises nothing


Handler = Callable[[Job, Context], Outcome]


def run_one(
    store: Store,
    bus: EventBus,
    handler: Handler,
    routes: Sequence[str],
    worker: str,
    *,
    drain: Drain | None = None,
    beat_s: float = BEAT_S,
    max_losses: int = MAX_LOSSES,
    nudges: Nudges | None = None,
) -> Job | None:
    """Takes the fairest job of `routes` and runs it. Returns it as it was when taken; None: there was none.

    `nudges`: None asks SQL at every step whether the job is to go on.
    """
    drain = drain or Drain()
    claim = None if drain.requested else store.claim(routes, worker)
    if claim is None:
        return None
    run_claim(store, bus, handler, claim, routes, drain, beat_s, max_losses, nudges)
    return claim.job


def run_claim(
    store: Store,
    bus: EventBus,
    handler: Handler,
    claim: Claim,
    routes: Sequence[str],
    drain: Drain,
    beat_s: float,
    max_losses: int,
    nudges: Nudges | None,
) -> None:
    """Runs a job that was taken, to the end of this attempt at it."""
    with (
        nullcontext() if nudges is None else nudges.about(claim.job.id) as nudge,
        heartbeat(store, claim, beat_s),
        closing(Context(store, bus, claim, routes, drain, nudge)) as context,
    ):
        ended = _attempt(store, handler, claim, context, max_losses)
        if ended is not None:
            bus.publish(claim.job.id, ended, {})  # before all else: somebody waits for it


def _attempt(store: Store, handler: Handler, claim: Claim, context: Context, max_losses: int) -> Status | None:
    """How the job ended. None: it has not ended here; another attempt goes on with it."""
    job = claim.job
    try:
        outcome = handler(job, context)
    except LeaseLost:
        log.warning("job %s was taken from this worker", job.id)
        return None
    except Cancelled:
        outcome = Outcome(Status.CANCELLED, Decimal(0))
    except (GiveBack, MakeWay) as stop:
        wasted_s = stop.wasted_s if isinstance(stop, GiveBack) else 0.0
        log.info("job %s is given back", job.id)
        status = patiently(lambda: store.give_back(job.id, claim.fence, wasted_s), OperationalError)
        return status if status is not None and status.terminal else None
    except Exception:
        log.exception("attempt %d at job %s failed", job.attempts, job.id)
        if claim.losses + 1 < max_losses:
            # What was wrong is seldom the job: a worker with a full disk must not fail all that wait.
            context.rest(rest_s(claim.losses))
        status = patiently(lambda: store.requeue(job.id, claim.fence, max_losses, RAISED), OperationalError)
        return status if status is not None and status.terminal else None
    if not patiently(lambda: _finish(store, claim, outcome), OperationalError):
        log.warning("job %s was taken from this worker; its outcome is dropped", job.id)
        return None
    if outcome.on_end is not None:
        outcome.on_end()
    return outcome.status


def _finish(store: Store, claim: Claim, outcome: Outcome) -> bool:
    return store.finish(
        claim.job.id,
        claim.fence,
        outcome.status,
        result=outcome.result,
        charge_usd=outcome.charge_usd,
        compute_s=outcome.compute_s,
        error_code=outcome.error_code,
        error_message=outcome.error_message,
        detail=outcome.detail,
        expires_at=outcome.expires_at,
    )

"""A job of the queue as the Video that the API answers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from videosvc.pricing.quote import Quote
from videosvc.pricing.receipt import unattended_receipt
from videosvc_queue.job import Ahead, Job, Status

log = logging.getLogger(__name__)

POLL_MS = (200, 2000)  # what a client is told to wait between two looks, at least and at most


def video_object(job: Job, ahead: Ahead | None = None) -> dict[str, Any]:
    """`ahead` is of a queued job; without it place and ETA are left out, as in lists."""
    try:
        quote, shown = _quoted(_Asked(job.id, job.removed_at, job.payload))
    except (KeyError, TypeError, ValueError) as error:  # a later version's: one such job must not hide all others
        log.warning("job %s is shown without its plan: %r", job.id, error)
        asked = _without_plan(job)
    else:
        asked = _as_quoted(job, quote, shown)
    return {
        "id": job.id,
        "object": "video",
        "status": job.status,
        "progress": job.progress,
        "created_at": int(job.created_at),
        "completed_at": _whole(job.completed_at),
        "expires_at": _whole(job.expires_at),
        "error": _error(job),
        "tier": job.tier,
        "queue_position": ahead.jobs if ahead is not None and job.status is Status.QUEUED else None,
        "eta_seconds": _rounded(eta_s(job, ahead)),
        "attempts": job.attempts,
        "metadata": job.metadata,
        "warnings": job.detail.get("warnings", []),
        **asked,
    }


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a job was to be; it changes once, when its clip is removed."""

    job_id: str
    removed_at: float | None
    payload: Mapping[str, Any] = field(compare=False)


@lru_cache(maxsize=512)  # polls ask for the same again and again
def _quoted(asked: _Asked) -> tuple[Quote, Mapping[str, Any]]:
    """The quote, and as the contract has it. Raises KeyError, TypeError, ValueError."""
    quote = Quote.parse(asked.payload["quote"])
    return quote, quote.as_dict()


def _as_quoted(job: Job, quote: Quote, shown: Mapping[str, Any]) -> dict[str, Any]:
    plan = quote.plan
    as_run = job.detail.get("plan") or shown["plan"]
    return {
        "model": plan.model,
        "seconds": f"{as_run['seconds']:g}",
        "size": (job.result or {}).get("size") or as_run["size"],
        "prompt": plan.prompt,
        "preset": quote.preset,
        "seed": plan.seed,
        "plan": as_run,
        "quote": shown,
        "receipt": _receipt(job, quote),
    }


def _without_plan(job: Job) -> dict[str, Any]:
    quote, result = job.payload.get("quote", {}), job.result or {}
    plan = quote.get("plan", {})
    return {
        "model": job.route,
        "seconds": f"{plan.get('seconds', 0):g}",
        "size": result.get("size", ""),
        "prompt": plan.get("prompt", ""),
        "preset": quote.get("preset", ""),
        "seed": plan.get("seed", 0),
        "plan": {},
        "quote": {},
        "receipt": result.get("receipt"),
    }


def eta_s(job: Job, ahead: Ahead | None) -> float | None:
    """Seconds until it is done, as far as predictions go; None if it is done, or its place is not known."""
    if job.status is Status.IN_PROGRESS:
        return job.predicted_s * (1 - job.progress / 100)
    if job.status is Status.QUEUED and ahead is not None:
        return ahead.wait_s + job.predicted_s
    return None


def poll_after_ms(job: Job, ahead: Ahead | None) -> int:
    """The header `openai-poll-after-ms`: a tenth of what is left, within bounds. The SDK reads it once."""
    left = eta_s(job, ahead)
    return int(min(max(100 * (left or 0.0), POLL_MS[0]), POLL_MS[1]))


def _receipt(job: Job, quote: Quote) -> dict[str, Any] | None:
    """As its worker wrote it, or, where none was there at the end, of what the row has: a row at its end stays so."""
    if not job.status.terminal:
        return None
    written: dict[str, Any] | None = (job.result or {}).get("receipt")
    return written or unattended_receipt(quote, job.detail)


def _error(job: Job) -> dict[str, str] | None:
    if job.status is Status.CANCELLED:
        return {"code": "cancelled", "message": job.error_message or "cancelled at the client's request"}
    if job.status is Status.FAILED:
        return {"code": job.error_code or "internal_error", "message": job.error_message or "the job failed"}
    return None


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)

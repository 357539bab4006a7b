"""From a checked request to a job in the queue."""

from __future__ import annotations

import reprlib
import time

from pydantic import ValidationError

from videosvc.api.auth import Caller
from videosvc.api.body import Body
from videosvc.api.errors import ApiError, invalid, invalid_value
from videosvc.api.image import check_image
from videosvc.api.schemas import VideoRequest
from videosvc.api.services import Services
from videosvc.pricing.quote import Quote
from videosvc_queue.job import Job, NewJob
from videosvc_queue.tiers import Tier

START_S = 300.0  # of an attempt's wall time that is no compute: loading the model, or fetching it first
FREE_BESIDE_QUOTE = {"quote_id", "webhook_url", "metadata"}  # what a quote says nothing of


def checked(body: Body) -> VideoRequest:
    """Raises ApiError naming the field that is wrong."""
    try:
        request = VideoRequest.model_validate(body.fields)
    except ValidationError as error:
        if "input_reference" in body.fields:
            raise invalid("input_reference", "must be an image file in a multipart body") from error
        raise invalid_value(error, VideoRequest) from error
    for name, data in body.files.items():
        if name != "input_reference":
            raise invalid(name, "may not be a file" if name in VideoRequest.model_fields else "unknown field")
        check_image(name, data)
        raise invalid(name, "no model here starts from a first frame")
    return request


def plan(services: Services, caller: Caller, request: VideoRequest) -> Quote:
    """The quote that is named, or a new one. Raises ApiError, CapTooLow, UserError naming the field."""
    if request.quote_id is None:
        tier = Tier(request.tier)

        def wait_s(model: str) -> float:
            services.planners.require_worker(model)
            return services.store.ahead_of_next(caller.tenant, model, tier).wait_s

        return services.planners.current().quote(request.request(), request.cap(), request.tier, request.goal(), wait_s)
    stored = services.store.get_quote(request.quote_id, caller.tenant)
    if stored is None:
        raise invalid("quote_id", f"there is no quote {reprlib.repr(request.quote_id)}")
    if stored.expires_at <= time.time():
        raise ApiError(409, "quote_expired", "quote_id: this quote has expired; ask for a new one", "quote_id")
    quoted = VideoRequest.model_validate(stored.body["request"])
    for field in request.model_fields_set - FREE_BESIDE_QUOTE:
        before = getattr(quoted, field)
        if getattr(request, field) != before:
            raise invalid(field, f"{reprlib.repr(before)} was quoted; leave it so, or ask for a new quote")
    return Quote.parse(stored.body["quote"])


def submit(
    services: Services, caller: Caller, request: VideoRequest, body_hash: str, key: str | None, job_id: str, again: bool
) -> tuple[Job, bool]:
    """The job, and whether it was there before. `key` is the Idempotency-Key; `again`: an earlier try had this id.

    Raises what `plan` does, and QueueFull, QuotaExceeded, IdempotencyConflict.
    """
    store = services.store
    if again and (earlier := store.get(job_id, caller.tenant)) is not None:
        return earlier, True
    if key is not None and (earlier := store.replay(caller.tenant, key, body_hash)) is not None:
        return earlier, True  # before planning: the same plan might not fit its cap today
    quote = plan(services, caller, request)
    job, replayed = store.submit(_new_job(job_id, caller, request, quote, body_hash, key), caller.limits)
    services.kick()
    return job, replayed


def _new_job(
    job_id: str, caller: Caller, request: VideoRequest, quote: Quote, body_hash: str, key: str | None
) -> NewJob:
    return NewJob(
        id=job_id,
        tenant=caller.tenant,
        tier=Tier(quote.rate.tier),
        route=quote.plan.model,
        payload={"quote": quote.fields(), "shown": quote.as_dict()},  # for the worker, and for every answer
        predicted_s=quote.compute_s,
        hold_usd=quote.price_usd,
        max_run_s=START_S + 2 * (quote.max_compute_s or quote.bound_s),
        webhook_url=request.webhook_url,
        metadata=request.metadata,
        idempotency_key=key,
        body_hash=None if key is None else body_hash,
    )

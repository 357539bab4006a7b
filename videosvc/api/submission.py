"""From a checked request to a job in the queue."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import reprlib
import time

from pydantic import ValidationError

from videosvc.api.auth import Caller
from videosvc.api.body import Body
from videosvc.api.errors import ApiError, invalid, invalid_value, unavailable
from videosvc.api.image import take_picture
from videosvc.api.schemas import VideoRequest
from videosvc.api.services import Services
from videosvc.api.webhook_url import check_webhook_url
from videosvc.artifacts.scratch import scratch_folder
from videosvc.config.settings import Settings
from videosvc.engine.picture import PARAM, Picture
from videosvc.pricing.quote import Quote
from videosvc_queue.errors import QueueError
from videosvc_queue.job import Ahead, Job, NewJob
from videosvc_queue.tiers import Tier

log = logging.getLogger(__name__)

START_S = 300.0  # of an attempt's wall time that is no compute: loading the model, or fetching it first
DAY_S = 86400.0  # a cap that allows more means none
FREE_BESIDE_QUOTE = {"quote_id", "webhook_url", "metadata"}  # what a quote says nothing of


def checked(body: Body, settings: Settings) -> tuple[VideoRequest, Picture | None]:
    """The request, and the picture it starts from. Raises ApiError, UserError naming the field that is wrong."""
    body, picture = take_picture(body)
    for name in body.files:  # before a field that came as one is said to be missing
        raise invalid(name, "may not be a file" if name in VideoRequest.model_fields else "unknown field")
    try:
        request = VideoRequest.model_validate(body.fields)
    except ValidationError as error:
        raise invalid_value(error) from error
    if request.webhook_url is not None:
        check_webhook_url(request.webhook_url, settings.webhook_allow_private)
    return request, picture


def body_hash(request: VideoRequest, picture: Picture | None) -> str:
    """The same for the same request, JSON or form, whether it spells out a default or not."""
    fields = request.model_dump(exclude_defaults=True)
    return hashlib.sha256(json.dumps([fields, picture and picture.digest], sort_keys=True).encode()).hexdigest()


def plan(
    services: Services, caller: Caller, request: VideoRequest, picture: Picture | None
) -> tuple[Quote, Ahead | None]:
    """The quote that is named, or a new one and what its job would find before it.

    Raises ApiError, CapTooLow, UserError naming the field.
    """
    if request.quote_id is None:
        tier, wanted = Tier(request.tier), request.request(picture)
        ahead: dict[str, Ahead] = {}

        def wait_s(model: str) -> float:
            services.planners.require_worker(model)
            ahead[model] = services.store.ahead_of_next(caller.tenant, model, tier)
            return ahead[model].wait_s

        limits, why_not = (request.cap(), request.tier, request.goal()), services.planners.why_not
        quote = services.planners.current().quote(wanted, *limits, wait_s, why_not=why_not)
        return quote, ahead[quote.plan.model]
    stored = services.store.get_quote(request.quote_id, caller.tenant)
    if stored is None:
        raise invalid("quote_id", f"there is no quote {reprlib.repr(request.quote_id)}; POST /v1/quotes makes one")
    if stored.expires_at <= time.time():
        raise ApiError(409, "quote_expired", "quote_id: this quote has expired; ask for a new one", "quote_id")
    quoted = VideoRequest.model_validate(stored.body["request"])
    for field in request.model_fields_set - FREE_BESIDE_QUOTE:
        before = getattr(quoted, field)
        if getattr(request, field) != before:
            raise invalid(field, f"{reprlib.repr(before)} was quoted; leave it so, or ask for a new quote")
    quote = Quote.parse(stored.body["quote"])
    if quote.plan.input_reference != (None if picture is None else picture.digest):
        raise invalid(PARAM, "send along what was quoted, the same picture or none, or ask for a new quote")
    services.planners.require_worker(quote.plan.model)  # it may be gone since
    services.planners.require_levers(quote)
    return quote, None


def submit(
    services: Services,
    caller: Caller,
    request: VideoRequest,
    picture: Picture | None,
    body_hash: str,
    key: str | None,
    job_id: str,
    again: bool,
) -> tuple[Job, bool, Ahead | None]:
    """The job, whether it was there before, and what was before it when it was planned, if it was planned now.

    `key` is the Idempotency-Key; `again`: an earlier try had this id.

    Raises what `plan` does, and QueueFull, QuotaExceeded, IdempotencyConflict.
    """
    store = services.store
    if again and (earlier := store.get(job_id, caller.tenant)) is not None:
        return earlier, True, None
    if key is not None and (earlier := store.replay(caller.tenant, key, body_hash)) is not None:
        return earlier, True, None  # before planning: the same plan might not fit its cap today
    quote, ahead = plan(services, caller, request, picture)
    kept = None if picture is None else _keep(services, job_id, picture)
    try:
        job, replayed = store.submit(_new_job(job_id, caller, request, quote, kept, body_hash, key), caller.limits)
    except QueueError:
        _take_back(services, job_id)
        raise
    if job.id != job_id:  # somebody with the same key came first
        _take_back(services, job_id)
    if not replayed:
        services.submitted(job)
    return job, replayed, None if replayed else ahead


def _take_back(services: Services, job_id: str) -> None:
    """The picture of a job that is not made; from a store that is away a sweep will take it later."""
    with contextlib.suppress(OSError):
        services.artifacts.delete(job_id)


def _keep(services: Services, job_id: str, picture: Picture) -> str:
    """Where the artifact store has it: a row of SQL would be read with it at every look at the job.

    Before the job is there, as a worker may take that at once; it goes with the job's other files. Raises ApiError 503.
    """
    try:
        with scratch_folder() as folder:
            file = folder / "input_reference.png"
            file.write_bytes(picture.png)
            return services.artifacts.put(job_id, 0, file.name, file).key
    except OSError as error:
        log.error("artifact store: %s", error)
        raise unavailable("the place where pictures are kept does not answer; try again") from error


def _new_job(
    job_id: str,
    caller: Caller,
    request: VideoRequest,
    quote: Quote,
    picture: str | None,
    body_hash: str,
    key: str | None,
) -> NewJob:
    """`picture`: where it is kept."""
    payload = {"quote": quote.fields()}
    return NewJob(
        id=job_id,
        tenant=caller.tenant,
        tier=Tier(quote.rate.tier),
        route=quote.plan.model,
        payload=payload if picture is None else {**payload, "input_reference": picture},
        predicted_s=quote.compute_s,
        hold_usd=quote.price_usd,
        max_run_s=START_S + 2 * max(quote.bound_s, min(quote.max_compute_s or 0.0, DAY_S)),
        webhook_url=request.webhook_url,
        metadata=request.metadata,
        idempotency_key=key,
        body_hash=None if key is None else body_hash,
    )

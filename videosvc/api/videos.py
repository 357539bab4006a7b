"""Videos: create, look at, list, cancel, delete."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import nullcontext
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic_core import to_json

from videosvc.api.auth import Caller, authorize
from videosvc.api.body import Body, read_body
from videosvc.api.errors import invalid, not_found
from videosvc.api.schemas import ERRORS, DeletedVideo, Video, VideoList, request_body
from videosvc.api.services import Here, Services
from videosvc.api.submission import body_hash, checked, submit
from videosvc.api.video_object import poll_after_ms, video_object
from videosvc.engine.picture import PARAM
from videosvc_queue.job import Ahead, Job, Status

router = APIRouter(prefix="/v1", tags=["videos"], responses=ERRORS)

VIDEO_ID = re.compile(r"video_[A-Za-z0-9_-]{24}")
KEY = r"^[\x21-\x7e]+$"

Tenant = Annotated[Caller, Depends(authorize)]


async def sent_body(request: Request, tenant: Tenant, services: Here) -> AsyncIterator[Body]:
    """After the caller is known: nobody else's body is read. One with a picture, of which some kilobytes may unpack to
    a hundred megabytes, waits until few others have one, and waits here, where it takes no thread from those without.
    """
    few, room = request.app.state.few, request.app.state.room
    with room.share() as take:
        body = await read_body(request, services.settings.max_body_bytes, few, take)
        async with few if PARAM in body.fields or PARAM in body.files else nullcontext():
            yield body


Sent = Annotated[Body, Depends(sent_body)]


@router.post("/videos", response_model=None, responses={200: {"model": Video}}, openapi_extra=request_body())
def create_video(
    tenant: Tenant,
    sent: Sent,
    services: Here,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255, pattern=KEY)] = None,
) -> Response:
    """Queue a clip. The same `Idempotency-Key` with the same body answers the same video for 24 hours."""
    rate = services.rates.take(tenant)
    request, picture = checked(sent, services.settings)
    content = body_hash(request, picture)
    with services.unsure.job_id(tenant.tenant, content) as (job_id, again):
        job, replayed, ahead = submit(services, tenant, request, picture, content, idempotency_key, job_id, again)
        replay = {"Idempotent-Replayed": "true"} if replayed else {}
        return _answer(job, ahead or _ahead(services, job), rate.headers() | replay)


@router.get("/videos", response_model=None, responses={200: {"model": VideoList}})
def list_videos(
    tenant: Tenant,
    services: Here,
    after: Annotated[str | None, Query(description="the last id of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> Response:
    """Newest first, or oldest with `order=asc`."""
    if after is not None and not VIDEO_ID.fullmatch(after):
        raise invalid("after", "must be the id of a video")
    try:
        jobs = services.store.list(tenant.tenant, after, limit + 1, order)
    except LookupError as error:
        raise invalid("after", "there is no such video") from error
    videos = [video_object(job) for job in jobs[:limit]]
    ids = [video["id"] for video in videos]
    page = {
        "object": "list",
        "data": videos,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
        "has_more": len(jobs) > limit,
    }
    return JSONResponse(page)


@router.get("/videos/{video_id}", response_model=None, responses={200: {"model": Video}})
async def retrieve_video(video_id: str, tenant: Tenant, services: Here) -> Response:
    """A failed video is an answer, not an error. Look again after `openai-poll-after-ms`."""
    seen = await services.reads.look(video_id) if VIDEO_ID.fullmatch(video_id) else None
    if seen is None or seen[0].tenant != tenant.tenant:
        raise not_found(video_id)
    return _answer(*seen)


@router.delete("/videos/{video_id}", response_model=None, responses={200: {"model": DeletedVideo}})
def delete_video(video_id: str, tenant: Tenant, services: Here) -> Response:
    """Cancel it if it is not done yet, and remove it and its content."""
    before = find(services, tenant, video_id)
    job = services.store.delete(video_id, tenant.tenant)
    if job is None:
        raise not_found(video_id)
    if quote_id := before.payload.get("quote", {}).get("id"):  # it has the prompt as well
        services.store.forget_quote(quote_id, tenant.tenant)
    _tell_of_cancel(services, before, job)
    return JSONResponse({"id": video_id, "object": "video.deleted", "deleted": True})


@router.post("/videos/{video_id}/cancel", response_model=None, responses={200: {"model": Video}})
def cancel_video(video_id: str, tenant: Tenant, services: Here) -> Response:
    """A running one stops within one step, and is charged for what ran; one that is done stays as it is."""
    before = find(services, tenant, video_id)
    try:
        job = services.store.cancel(video_id, tenant.tenant)
    except LookupError as error:
        raise not_found(video_id) from error
    _tell_of_cancel(services, before, job)
    return _answer(job, _ahead(services, job))


def find(services: Services, tenant: Caller, video_id: str) -> Job:
    """Raises ApiError 404 if there is none, or it is another tenant's."""
    job = services.store.get(video_id, tenant.tenant) if VIDEO_ID.fullmatch(video_id) else None
    if job is None:
        raise not_found(video_id)
    return job


def _answer(job: Job, ahead: Ahead | None, headers: dict[str, str] | None = None) -> Response:
    headers = headers or {}
    if not job.status.terminal:
        headers["openai-poll-after-ms"] = str(poll_after_ms(job, ahead))
    # A quarter of what the standard library's takes.
    return Response(to_json(video_object(job, ahead)), media_type="application/json", headers=headers)


def _ahead(services: Services, job: Job) -> Ahead | None:
    return services.store.ahead(job) if job.status is Status.QUEUED else None


def _tell_of_cancel(services: Services, before: Job, job: Job) -> None:
    """A running job's worker hears of it, and tells of the end; a queued one has none. One that ran a moment ago may
    be either: told twice is told."""
    if job.status is Status.IN_PROGRESS:
        services.bus.nudge(job.id)
    if job.status is Status.CANCELLED and not before.status.terminal:
        services.bus.publish(before.id, "cancelled", {})

"""A job's events as they come: Server-Sent Events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event

from videosvc.api.errors import ApiError
from videosvc.api.schemas import ERRORS
from videosvc.api.services import Here, Services
from videosvc.api.video_object import video_object
from videosvc.api.videos import Tenant, find
from videosvc_queue.events import range_start
from videosvc_queue.fanout import Fanout
from videosvc_queue.job import Job, Status

router = APIRouter(prefix="/v1", tags=["videos"], responses=ERRORS)

BEGINNING = "0-0"  # id of a plan that is told again: whoever comes back with it has missed no event
END = "end"  # id of the last event: whoever comes back with it has seen everything
KEEP_ALIVE_S = 15
MAX_STREAMS = 2000  # of one process
ENDINGS = {str(status) for status in Status if status.terminal}

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # nginx would hold events back


@router.get(
    "/videos/{video_id}/events",
    response_model=None,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "the events"},
        204: {"description": "the client has seen the end (Last-Event-ID: end)"},
    },
)
async def follow_video(
    video_id: str,
    request: Request,
    tenant: Tenant,
    services: Here,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """`plan`, `progress`, `preview`; then one of `completed`, `failed`, `cancelled` with the Video, and nothing more.

    A client that lost the connection goes on after `Last-Event-ID`.
    """
    job = await run_in_threadpool(find, services, tenant, video_id)
    if job.status.terminal and last_event_id == END:
        return Response(status_code=204)  # tells a browser's EventSource to stop
    if services.metrics.streams() >= MAX_STREAMS:
        raise ApiError(503, "unavailable", f"{MAX_STREAMS} streams are open; poll instead", retry_after_s=5)
    fanout: Fanout = request.app.state.fanout
    return EventSourceResponse(_stream(services, fanout, job, last_event_id), headers=HEADERS)


async def _stream(services: Services, fanout: Fanout, job: Job, last_event_id: str | None) -> AsyncIterator[bytes]:
    with services.metrics.stream():
        yield KEEPALIVE_COMMENT  # so that proxies hand on the headers
        from_beginning = range_start(last_event_id) == range_start(None)
        async for events in fanout.follow(job.id, last_event_id, KEEP_ALIVE_S):
            # Redis keeps only the newest events of a long job, and none from before it was wiped.
            if from_beginning and events and events[0].kind in ("progress", "preview"):
                plan = {"plan": video_object(job)["plan"]}
                yield format_sse_event(event="plan", data_str=json.dumps(plan), id=BEGINNING)
            from_beginning = False
            for event in events:
                if event.kind not in ENDINGS:
                    yield format_sse_event(event=event.kind, data_str=json.dumps(event.data), id=event.id)
            # Its end is SQL's to tell: asked at word of it, and in silence, as the word may have gone with a Redis.
            if not job.status.terminal and (not events or any(event.kind in ENDINGS for event in events)):
                now = await run_in_threadpool(services.store.get, job.id)
                if now is None:
                    yield format_sse_event(event="cancelled", data_str=json.dumps({"id": job.id}), id=END)
                    return  # deleted
                job = now
            if job.status.terminal:
                yield format_sse_event(event=str(job.status), data_str=json.dumps(video_object(job)), id=END)
                return
            if not events:
                yield KEEPALIVE_COMMENT

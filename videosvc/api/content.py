"""A video's files: whole, or the part a player asks for; and the preview of one that still runs."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Request
from fastapi.responses import Response, StreamingResponse

from videosvc.api.errors import ApiError, unavailable
from videosvc.api.schemas import ERRORS
from videosvc.api.services import Here
from videosvc.api.videos import Tenant, find
from videosvc_queue.job import Job, Status

log = logging.getLogger(__name__)

router = APIRouter(prefix="/v1", tags=["content"], responses=ERRORS)

Variant = Literal["video", "thumbnail", "spritesheet"]

ONE_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
NO_RETRY = {"x-should-retry": "false"}  # or the OpenAI SDK asks again at once, twice
FILES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"video/mp4": {}, "image/webp": {}, "image/jpeg": {}}, "description": "the file"},
    206: {"description": "the part asked for"},
    304: {"description": "the client has it"},
}


@router.head("/videos/{video_id}/content", include_in_schema=False)
@router.get("/videos/{video_id}/content", response_model=None, responses=FILES)
def download_content(
    request: Request,
    video_id: str,
    tenant: Tenant,
    services: Here,
    variant: Variant = "video",
    range_: Annotated[str | None, Header(alias="Range", description="one range, such as bytes=0-1023")] = None,
    if_range: Annotated[str | None, Header()] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """409 `not_ready` until the video is completed, 404 `content_expired` after `expires_at`."""
    job = find(services, tenant, video_id)
    artifact = _artifact(job, variant)
    size, etag = int(artifact["bytes"]), f'"{artifact["etag"]}"'
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": "private, max-age=3600"}
    if if_none_match is not None and (if_none_match.strip() == "*" or etag in if_none_match):
        return Response(status_code=304, headers=headers)
    wanted = None if if_range is not None and if_range != etag else _range(range_, size)
    start, end = (0, size) if wanted is None else wanted
    pieces: Iterator[bytes] = iter(())
    try:
        if request.method == "HEAD":
            services.artifacts.size(artifact["key"])  # whether it is there
        else:
            pieces = services.artifacts.open(artifact["key"], start, end)
    except FileNotFoundError as error:
        raise _expired() from error
    except OSError as error:
        log.error("artifact store: %s", error)
        raise unavailable("the place where clips are kept does not answer; try again") from error
    suffix = str(artifact["key"]).rpartition(".")[2]
    headers |= {
        "Content-Length": str(end - start),
        "Content-Disposition": f'inline; filename="{video_id}.{suffix}"',
        "X-Content-Type-Options": "nosniff",
    }
    if wanted is None:
        return StreamingResponse(pieces, 200, headers, artifact["media_type"])
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return StreamingResponse(pieces, 206, headers, artifact["media_type"])


@router.get(
    "/videos/{video_id}/preview",
    response_model=None,
    responses={200: {"content": {"image/jpeg": {}}, "description": "the newest preview"}},
)
def download_preview(video_id: str, tenant: Tenant, services: Here) -> Response:
    """A small picture of what is there so far; 409 `not_ready` before there is one."""
    job = find(services, tenant, video_id)
    image = services.bus.get_preview(video_id)
    if image is None and not job.status.terminal:
        raise ApiError(409, "not_ready", "there is no preview yet", headers=NO_RETRY)
    if image is None:
        raise ApiError(404, "not_found", f"the video is {job.status}; previews are there while it runs")
    return Response(image, media_type="image/jpeg", headers={"Cache-Control": "no-store"})


def _artifact(job: Job, variant: Variant) -> dict[str, str]:
    artifact: dict[str, str] | None = ((job.result or {}).get("artifacts") or {}).get(variant)
    if not job.status.terminal:
        message = f"the video is {job.status}, at {job.progress} %"
        raise ApiError(409, "not_ready", message, headers=NO_RETRY)
    if artifact is None:
        why = "failed" if job.status is Status.FAILED else str(job.status)
        raise ApiError(404, "not_found", f"the video is {why} and has no {variant}")
    if job.removed_at is not None or (job.expires_at is not None and job.expires_at <= time.time()):
        raise _expired()
    return artifact


def _expired() -> ApiError:
    return ApiError(404, "content_expired", "the content was kept until expires_at, and is removed")


def _range(header: str | None, size: int) -> tuple[int, int] | None:
    """Start and end (not included) of the one range asked for; None is all, as for lists of ranges, which a server
    may ignore. Raises ApiError 416 if it lies behind the end."""
    match = ONE_RANGE.fullmatch(header.strip()) if header is not None else None
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match[1], match[2]
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if first and last and int(last) < int(first):
        return None  # no range at all, says the RFC, and to be ignored
    if start >= size:
        headers = {"Content-Range": f"bytes */{size}"}
        raise ApiError(416, "invalid_request", f"Range: the file has {size} bytes", "Range", headers=headers)
    return start, end

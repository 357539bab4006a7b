"""What a webhook tells."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from videosvc.api.video_object import video_object
from videosvc_queue.deliveries import Webhook
from videosvc_queue.job import Job


def describe(message: Webhook, job: Job) -> dict[str, Any]:
    """As Standard Webhooks has it: type, time and data; the same on every try."""
    told_at = datetime.fromtimestamp(message.created_at, UTC).isoformat()
    return {"type": f"video.{message.event}", "timestamp": told_at, "data": video_object(job)}

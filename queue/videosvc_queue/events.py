"""What a job is doing, told through Redis while it lasts: events, wake-ups and previews. Nothing here must be kept:
whoever follows a job asks SQL for its status whenever Redis has nothing to say."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from videosvc_queue.wire import Wire, client_options

WAKE = "videosvc:wake"  # pub/sub: the id of a job that has a new event
NUDGES = "videosvc:nudges"  # pub/sub: the id of a job that its worker had better look at, or a route with a new job
MAX_EVENTS = 256        # kept of a job; a follower that is further behind misses the oldest progress
EVENTS_KEPT_S = 3600
PREVIEW_KEPT_S = 600

# One command and one answer: three in a pipeline took half as much CPU again, at every event.
PUBLISH = """
redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[1], '*', 'kind', ARGV[2], 'data', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('PUBLISH', ARGV[5], ARGV[6])
"""
EVENT_ID = re.compile(r"\d{1,15}-\d{1,10}")


@dataclass(frozen=True, slots=True)
class Event:
    id: str               # rises within a job, even over a wiped Redis: it begins with the server's milliseconds
    kind: str             # plan, progress, preview, completed, failed, cancelled
    data: dict[str, Any]


class EventBus:
    """Thread-safe. Writing never raises for want of Redis: a job does not fail because nobody can watch it."""

    def __init__(self, redis_url: str) -> None:
        self._redis = redis.Redis.from_url(redis_url, **client_options(Retry(NoBackoff(), 1)))
        self._wire = Wire(redis_url)

    def publish(self, job_id: str, kind: str, data: dict[str, Any]) -> None:
        values = (MAX_EVENTS, kind, json.dumps(data), EVENTS_KEPT_S, WAKE, job_id)
        self._wire.send("EVAL", PUBLISH, 1, events_key(job_id), *values)

    def preview(self, job_id: str, image: bytes) -> None:
        """`image`: JPEG, replaces the one before."""
        self._wire.send("SET", preview_key(job_id), image, "EX", PREVIEW_KEPT_S)

    def nudge(self, name: str) -> None:
        """Who watches this job, or this route, had better look at SQL: see nudges.py."""
        self._wire.send("PUBLISH", NUDGES, name)

    def read(self, job_id: str, after: str | None = None) -> list[Event]:
        """Events later than the one with id `after`, oldest first; all of them if that is no event's id.
        Raises redis.RedisError."""
        self._wire.settle()
        return parse_events(self._redis.xrange(events_key(job_id), min=range_start(after)))

    def get_preview(self, job_id: str) -> bytes | None:
        """Raises redis.RedisError."""
        self._wire.settle()
        image = self._redis.get(preview_key(job_id))
        assert image is None or isinstance(image, bytes)
        return image

    def ping(self) -> None:
        """Raises redis.RedisError if Redis does not answer."""
        self._redis.ping()

    def close(self) -> None:
        self._wire.close()
        self._redis.close()


def events_key(job_id: str) -> str:
    return f"videosvc:events:{job_id}"


def preview_key(job_id: str) -> str:
    return f"videosvc:preview:{job_id}"


def range_start(after: str | None) -> str:
    """`after` comes from a client's Last-Event-ID. The id behind it: Redis 6.0 (Ubuntu 22.04) knows no open ranges."""
    if after is None or not EVENT_ID.fullmatch(after):
        return "-"
    milliseconds, number = after.split("-")
    return f"{milliseconds}-{int(number) + 1}"


def parse_events(rows: Any) -> list[Event]:
    return [
        Event(event_id.decode(), fields[b"kind"].decode(), json.loads(fields[b"data"])) for event_id, fields in rows
    ]

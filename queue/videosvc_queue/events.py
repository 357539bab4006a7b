"""What a job is doing, told through Redis while it lasts: events, wake-ups and previews. Nothing here must be kept:
whoever follows a job asks SQL for its status whenever Redis has nothing to say."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

log = logging.getLogger(__name__)

WAKE = "videosvc:wake"  # pub/sub: the id of a job that has a new event
MAX_EVENTS = 256        # kept of a job; a follower that is further behind misses the oldest progress
EVENTS_KEPT_S = 3600
PREVIEW_KEPT_S = 600
PAUSE_S = 10.0          # after a server that hung for TIMEOUT_S, so that a job loses seconds once and not at every step
TIMEOUT_S = 5.0

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
        self._publish = self._redis.register_script(PUBLISH)
        self._quiet_until = 0.0
        self._failing = False

    def publish(self, job_id: str, kind: str, data: dict[str, Any]) -> None:
        values = (MAX_EVENTS, kind, json.dumps(data), EVENTS_KEPT_S, WAKE, job_id)
        self._write(lambda: self._publish(keys=[events_key(job_id)], args=values))

    def preview(self, job_id: str, image: bytes) -> None:
        """`image`: JPEG, replaces the one before."""
        self._write(lambda: self._redis.set(preview_key(job_id), image, ex=PREVIEW_KEPT_S))

    def read(self, job_id: str, after: str | None = None) -> list[Event]:
        """Events later than the one with id `after`, oldest first; all of them if that is no event's id.
        Raises redis.RedisError."""
        return parse_events(self._redis.xrange(events_key(job_id), min=range_start(after)))

    def get_preview(self, job_id: str) -> bytes | None:
        """Raises redis.RedisError."""
        image = self._redis.get(preview_key(job_id))
        assert image is None or isinstance(image, bytes)
        return image

    def ping(self) -> None:
        """Raises redis.RedisError if Redis does not answer."""
        self._redis.ping()

    def close(self) -> None:
        self._redis.close()

    def _write(self, command: Callable[[], object]) -> None:
        if time.monotonic() < self._quiet_until:
            return
        try:
            command()
            self._failing = False
        except redis.RedisError as error:
            if isinstance(error, redis.TimeoutError):
                self._quiet_until = time.monotonic() + PAUSE_S
            if not self._failing:
                log.warning("events are not published until Redis is back: %s", error)
            self._failing = True


def client_options(retry: object) -> dict[str, Any]:
    """Of every client here. `retry` is redis-py's, of the sync or the async kind: one try more, for a connection
    that a restarted server has closed; its own default waits and tries ten times."""
    return {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": 2, "health_check_interval": 5, "retry": retry}


def events_key(job_id: str) -> str:
    return f"videosvc:events:{job_id}"


def preview_key(job_id: str) -> str:
    return f"videosvc:preview:{job_id}"


def range_start(after: str | None) -> str:
    """`after` comes from a client's Last-Event-ID."""
    return f"({after}" if after is not None and EVENT_ID.fullmatch(after) else "-"


def parse_events(rows: Any) -> list[Event]:
    return [
        Event(event_id.decode(), fields[b"kind"].decode(), json.loads(fields[b"data"])) for event_id, fields in rows
    ]

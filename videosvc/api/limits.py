"""Requests a minute and tenant, counted in Redis so that replicas count together."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from videosvc.api.auth import Caller
from videosvc.api.errors import ApiError
from videosvc_queue.wire import client_options

log = logging.getLogger(__name__)

WINDOW_S = 60
PAUSE_S = 5.0  # without counting, after Redis failed: a create must not wait for it each time


@dataclass(frozen=True, slots=True)
class Rate:
    """Where a tenant stands in this minute."""

    limit: int
    remaining: int
    reset_s: int

    def headers(self) -> dict[str, str]:
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(self.reset_s),
        }


class RateLimiter:
    """Counts what costs work: creates and quotes. The store counts jobs for itself, so a lost Redis opens no door."""

    def __init__(self, redis_url: str) -> None:
        self._redis = redis.Redis.from_url(redis_url, **client_options(Retry(NoBackoff(), 1)))
        self._quiet_until = 0.0

    def take(self, caller: Caller) -> Rate:
        """One request. Raises ApiError 429 `quota_exceeded` if the tenant has none left."""
        now = time.time()
        minute = int(now // WINDOW_S)
        limit, reset_s = caller.limits.per_minute, int((minute + 1) * WINDOW_S - now) + 1
        used = self._count(f"videosvc:rate:{caller.tenant}:{minute}")
        rate = Rate(limit, max(0, limit - used), reset_s)
        if used > limit:
            message = f"{limit} requests a minute are the most"
            raise ApiError(429, "quota_exceeded", message, retry_after_s=reset_s, headers=rate.headers())
        return rate

    def _count(self, key: str) -> int:
        if time.monotonic() < self._quiet_until:
            return 0
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.incr(key)
        pipeline.expire(key, 2 * WINDOW_S)
        try:
            return int(pipeline.execute()[0])
        except redis.RedisError as error:
            log.warning("requests are not counted until Redis is back: %s", error)
            self._quiet_until = time.monotonic() + PAUSE_S
            return 0

    def close(self) -> None:
        self._redis.close()

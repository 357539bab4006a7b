"""Many followers of jobs in one process, on one pub/sub connection to Redis."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from types import TracebackType

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from videosvc_queue.events import WAKE, Event, events_key, parse_events, range_start
from videosvc_queue.wire import client_options

log = logging.getLogger(__name__)

READERS = 8             # connections that read events, whatever the number of followers
RECONNECT_AFTER_S = 0.5


class Fanout:
    """Follows jobs. Belongs to one event loop: start it by `async with`."""

    def __init__(self, redis_url: str) -> None:
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            redis_url, max_connections=READERS, timeout=None, **client_options(Retry(NoBackoff(), 1))
        )
        self._readers = redis.asyncio.Redis.from_pool(pool)
        self._listener = redis.asyncio.Redis.from_url(redis_url, **client_options(Retry(NoBackoff(), 0)))
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._stopping = False

    async def __aenter__(self) -> Fanout:
        self._task = asyncio.create_task(self._listen(), name="videosvc-fanout")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()  # asyncio.wait_for in Python 3.11, which redis-py uses, may swallow the cancellation
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._listener.aclose()
        await self._readers.aclose()

    def stop(self) -> None:
        """Ends every `follow`."""
        self._stopping = True
        self._wake_all()

    async def follow(self, job_id: str, after: str | None = None, idle_s: float = 15) -> AsyncIterator[list[Event]]:
        """Until `stop`: events later than `after` as they come, in batches. A batch is empty when there are none at
        the start, after `idle_s` without any, and when Redis came back; look at the job in SQL then, for its last
        event may have gone with a Redis."""
        with self._watch(job_id) as wake:
            while not self._stopping:
                wake.clear()  # before reading: what comes while we read wakes us again
                events = await self._read(job_id, after)
                if events:
                    after = events[-1].id
                yield events
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(wake.wait(), idle_s)

    async def _read(self, job_id: str, after: str | None) -> list[Event]:
        try:
            return parse_events(await self._readers.xrange(events_key(job_id), min=range_start(after)))
        except redis.RedisError:
            return []  # the listener logs it, and wakes everybody when Redis is back

    @contextlib.contextmanager
    def _watch(self, job_id: str) -> Iterator[asyncio.Event]:
        wake = asyncio.Event()
        self._waiting[job_id].add(wake)
        try:
            yield wake
        finally:
            self._waiting[job_id].discard(wake)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    async def _listen(self) -> None:
        failing = False
        while not self._stopping:
            try:
                async with self._listener.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(WAKE)
                    failing = False
                    self._wake_all()  # what was published while nobody listened
                    while not self._stopping:
                        # A timeout of its own, so that the client's health check runs on a quiet connection.
                        message = await channel.get_message(timeout=1)
                        if message is not None:
                            self._wake(message["data"].decode())
            except (redis.RedisError, OSError) as error:
                if not failing:
                    log.warning("events are not followed until Redis is back: %s", error)
                failing = True
                await asyncio.sleep(RECONNECT_AFTER_S)

    def _wake(self, job_id: str) -> None:
        for wake in self._waiting.get(job_id, ()):
            wake.set()

    def _wake_all(self) -> None:
        for waiting in self._waiting.values():
            for wake in waiting:
                wake.set()

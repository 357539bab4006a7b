"""What a worker hears through Redis, so that it need not ask SQL again and again: look at this job, at this route."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from videosvc_queue.background import Background
from videosvc_queue.events import NUDGES
from videosvc_queue.wire import client_options

log = logging.getLogger(__name__)

RECONNECT_AFTER_S = 0.5
HEAR_S = 1.0  # between two looks whether the connection lives


class Nudge:
    """Of one name, for one thread."""

    def __init__(self, nudges: Nudges) -> None:
        self._nudges = nudges
        self._word = threading.Event()
        self.tell()  # what was said before this one was there is not known

    def take(self) -> bool:
        """Whether to look: there was word since the last time, or may have been, as Redis was away."""
        due = self._word.is_set() or self._nudges.deaf
        if due:
            self._word.clear()  # before the look: what comes during it counts for the next
        return due

    def wait(self, seconds: float) -> None:
        """Until there is word to take, at most for so long."""
        self._word.wait(seconds)

    def tell(self) -> None:
        self._word.set()


class Nudges(Background):
    """Listens in a thread: asking whether there was word costs next to nothing.

    Word that is lost (a half-open connection) must only delay: whoever listens looks at times without it.
    """

    def __init__(self, redis_url: str) -> None:
        super().__init__("nudges")
        self._redis = redis.Redis.from_url(redis_url, **client_options(Retry(NoBackoff(), 0)))
        self._waiting: defaultdict[str, set[Nudge]] = defaultdict(set)
        self._lock = threading.Lock()
        self.deaf = True

    def stop(self) -> None:
        super().stop()
        self._redis.close()

    @contextmanager
    def about(self, *names: str) -> Iterator[Nudge]:
        """Jobs' ids, or routes."""
        nudge = Nudge(self)
        with self._lock:
            for name in names:
                self._waiting[name].add(nudge)
        try:
            yield nudge
        finally:
            with self._lock:
                for name in names:
                    self._waiting[name].discard(nudge)
                    if not self._waiting[name]:
                        del self._waiting[name]

    def _run(self) -> None:
        failing = False
        while not self.stopping:
            try:
                with self._redis.pubsub() as channel:  # type: ignore[no-untyped-call]
                    channel.subscribe(NUDGES)
                    while not self.stopping:
                        message = channel.get_message(timeout=HEAR_S)
                        if message is None:
                            continue
                        if message["type"] == "subscribe":
                            self.deaf = failing = False
                            self._tell_all()  # what was said while nobody listened
                        elif message["type"] == "message":
                            self._tell(message["data"].decode())
            except (redis.RedisError, OSError) as error:
                if not failing:
                    log.warning("SQL is asked at every step until Redis is back: %s", error)
                failing = self.deaf = True
                self._stopping.wait(RECONNECT_AFTER_S)

    def _tell(self, name: str) -> None:
        with self._lock:
            for nudge in self._waiting.get(name, ()):
                nudge.tell()

    def _tell_all(self) -> None:
        with self._lock:
            for waiting in self._waiting.values():
                for nudge in waiting:
                    nudge.tell()

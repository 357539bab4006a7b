"""A connection to Redis for what may be lost: nobody waits for the answers."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

log = logging.getLogger(__name__)

PAUSE_S = 10.0  # after a server that hung for TIMEOUT_S, so that a job loses seconds once and not at every step
TIMEOUT_S = 5.0


class Wire:
    """Thread-safe. A command that was sent has left this process; its answer is read before the next one is sent.

    On cores that compute, waiting for it took 1 ms, as Redis had to get one first. Nothing raises for want of Redis.
    """

    def __init__(self, redis_url: str) -> None:
        options = client_options(Retry(NoBackoff(), 0))
        self._connection: Any = redis.ConnectionPool.from_url(redis_url, **options).make_connection()
        self._lock = threading.Lock()
        self._unanswered = 0
        self._asked_at = 0.0  # the oldest of them
        self._quiet_until = 0.0
        self._failing = False

    def send(self, *command: str | bytes | int) -> None:
        with self._lock:
            if time.monotonic() < self._quiet_until:
                return
            try:
                self._read_answers()
            except redis.ConnectionError:
                self._forget()  # a restarted server has closed it: that is no reason not to send
            except redis.RedisError as error:
                self._fail(error)
                return
            try:
                # No health check: it would take another command's answer for its own.
                self._connection.send_packed_command(self._connection.pack_command(*command), check_health=False)
            except redis.RedisError as error:
                self._fail(error)
                return
            if self._unanswered == 0:
                self._asked_at = time.monotonic()
            self._unanswered += 1

    def settle(self) -> None:
        """Waits for the answers, so that whoever reads now sees what was sent."""
        with self._lock:
            try:
                self._read_answers(TIMEOUT_S)
            except redis.RedisError as error:
                self._fail(error)

    def close(self) -> None:
        with self._lock:
            self._forget()

    def _read_answers(self, wait_s: float = 0.0) -> None:
        """Those that have come; up to `wait_s` for each of the others. Raises redis.RedisError."""
        connection = self._connection
        if not connection.is_connected:
            return
        while connection.can_read(wait_s if self._unanswered else 0):  # with none to come it is the connection's end
            try:
                connection.read_response()
                self._failing = False
            finally:
                self._unanswered = max(0, self._unanswered - 1)
                self._asked_at = time.monotonic()
        if self._unanswered and time.monotonic() - self._asked_at > TIMEOUT_S:
            raise redis.TimeoutError(f"no answer within {TIMEOUT_S:g} s")

    def _forget(self) -> None:
        self._connection.disconnect()
        self._unanswered = 0

    def _fail(self, error: redis.RedisError) -> None:
        if isinstance(error, redis.TimeoutError):
            self._quiet_until = time.monotonic() + PAUSE_S
        if not isinstance(error, redis.ResponseError):
            self._forget()
        if not self._failing:
            log.warning("events are not published until Redis is back: %s", error)
        self._failing = True


def client_options(retry: object) -> dict[str, Any]:
    """Of every client here. `retry` is redis-py's, of the sync or the async kind: one try more, for a connection
    that a restarted server has closed; its own default waits and tries ten times."""
    return {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": 2, "health_check_interval": 5, "retry": retry}

"""Creates whose answer failed, perhaps after their job was committed."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from videosvc.api.errors import as_api_error

KEPT_S = 30.0  # the OpenAI SDK tries again within 8 seconds, twice


class Unsure:
    """The OpenAI SDK sends a create that was answered 5xx again, without an Idempotency-Key. The same body of the
    same tenant gets the same id within seconds of such an answer, so that it can be seen whether the job is there."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, str], tuple[float, str]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def job_id(self, tenant: str, body_hash: str) -> Iterator[tuple[str, bool]]:
        """An id, and whether a job may have it already. Kept for the next try if the block ends in a 5xx."""
        key = (tenant, body_hash)
        with self._lock:
            failed_at, job_id = self._ids.pop(key, (float("-inf"), ""))
        again = time.monotonic() - failed_at < KEPT_S
        if not again:
            job_id = "video_" + secrets.token_urlsafe(18)
        try:
            yield job_id, again
        except Exception as error:
            if as_api_error(error).status >= 500:
                self._keep(key, job_id)
            raise

    def _keep(self, key: tuple[str, str], job_id: str) -> None:
        now = time.monotonic()
        with self._lock:
            fresh = {other: kept for other, kept in self._ids.items() if now - kept[0] < KEPT_S}
            self._ids = {**fresh, key: (now, job_id)}

"""Why a job was not accepted, or a database."""

from __future__ import annotations


class QueueError(Exception):
    """Base of what `Store.submit` refuses with."""


class QueueFull(QueueError):
    """The tenant has as many jobs queued as it may."""

    def __init__(self, max_queued: int, retry_after_s: float) -> None:
        super().__init__(f"{max_queued} jobs are queued already, the most this tenant may have")
        self.retry_after_s = retry_after_s


class QuotaExceeded(QueueError):
    """A limit is used up. `what`: per_minute, usd_per_day (fields of TenantLimits), or balance."""

    def __init__(self, what: str, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.what = what
        self.retry_after_s = retry_after_s


class IdempotencyConflict(QueueError):
    """The tenant used this idempotency key for another body within the last 24 hours."""

    def __init__(self, key: str) -> None:
        super().__init__(f"idempotency key {key!r} was used with another body")
        self.key = key


class LaterTables(Exception):
    """The database was brought up to date by a later version of this package. The text is one line."""

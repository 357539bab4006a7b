"""Before something is tried again. At the end of a job: its work is done, and what is away for a moment must not
cost it. After an attempt that failed: what made it fail may be gone by then."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

log = logging.getLogger(__name__)

WAIT_S = 30.0  # about the time of a lease
PAUSE_S = 1.0
FIRST_REST_S = 2.0  # after an attempt that failed; twice as long after each further one
LONGEST_REST_S = 30.0

T = TypeVar("T")


def patiently(do: Callable[[], T], away: type[Exception]) -> T:
    """What `do` returns, once it raises `away` no more. Raises it as well in the end, after WAIT_S."""
    until = time.monotonic() + WAIT_S
    while True:
        try:
            return do()
        except away as error:
            if time.monotonic() > until:
                raise
            log.warning("tried again in %g s: %s", PAUSE_S, error)
        time.sleep(PAUSE_S)


def rest_s(failed: int) -> float:
    """Seconds before the next attempt; `failed`: those before the one that failed now."""
    return min(LONGEST_REST_S, FIRST_REST_S * 2.0**failed)

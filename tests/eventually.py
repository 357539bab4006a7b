"""For what another process does, and tells nobody."""

from __future__ import annotations

import time
from collections.abc import Callable


def eventually(is_so: Callable[[], object], timeout_s: float = 20) -> None:
    """Asks until it is so."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.02)

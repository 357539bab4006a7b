"""What asks a process to stop: Ctrl-C, `kill`, and a terminal that is closed."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """What asks to stop is heard after the block: in the midst of starting or stopping ffmpeg it would leave that, and
    the file that it makes, to nobody. Python runs handlers in its main thread, whichever thread the signal came to."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    before = {number: signal.signal(number, lambda number, _: arrived.append(number)) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for one in dict.fromkeys(arrived):
            signal.raise_signal(one)

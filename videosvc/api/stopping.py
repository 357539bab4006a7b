"""Word that the server is about to stop, before it waits for open answers to end: event streams do not on their own."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def before_stopping(tell: Callable[[], None]) -> Iterator[None]:
    """Calls `tell` in the running event loop at SIGINT and SIGTERM, beside what the server does then.

    Outside of a process's main thread there are no signals to hear.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    servers = {number: signal.getsignal(number) for number in SIGNALS}

    def heard(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(tell)
        if callable(handler := servers[signal.Signals(number)]):
            handler(number, frame)

    for number in SIGNALS:
        signal.signal(number, heard)
    try:
        yield
    finally:
        for number, handler in servers.items():
            signal.signal(number, handler)

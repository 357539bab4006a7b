"""A thread that belongs to whoever entered it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Self


class Background(ABC):
    """Its thread runs from entering to leaving, or from `start` to `stop`; once."""

    def __init__(self, name: str) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"videosvc-{name}", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Until the process ends, where nobody stops it."""
        self._thread.start()

    def stop(self) -> None:
        """Waits for what the thread is doing."""
        self._stopping.set()
        self._thread.join()

    @property
    def stopping(self) -> bool:
        """What does many things asks between two of them."""
        return self._stopping.is_set()

    @abstractmethod
    def _run(self) -> None:
        """In the thread; to return soon once it is stopping."""

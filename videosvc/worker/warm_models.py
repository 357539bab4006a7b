"""Loaded models, kept for the next job: loading takes seconds to minutes, a small clip less than one."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from videosvc.engine.loading import open_engine
from videosvc.families.load_levers import NO_LEVERS, LoadLevers
from videosvc.worker.memory import free_memory, is_out_of_memory

if TYPE_CHECKING:
    from videosvc.config.models import ModelEntry
    from videosvc.engine.generate import Engine


class WarmModels:
    """Engines on one device, by model and levers; the least recently used one makes room. Threads may share it."""

    def __init__(self, device: str, max_models: int, kept: Path | None = None) -> None:
        """`device`: auto, cpu, cuda:N; `kept`: a folder to keep quantised weights and compiled code in."""
        self._device = device
        self._max_models = max_models
        self._kept = kept
        self._engines: OrderedDict[tuple[str, LoadLevers], tuple[ModelEntry, Engine]] = OrderedDict()
        self._loading = threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the loaded models, least recently used first."""
        return tuple(name for name, _ in self._engines)

    def has(self, entry: ModelEntry, levers: LoadLevers) -> bool:
        """Whether `get` would find it loaded."""
        known = self._engines.get((entry.name, levers))
        return known is not None and known[0] == entry

    def get(
        self, entry: ModelEntry, levers: LoadLevers = NO_LEVERS, warm_up: Callable[[Engine], None] = lambda engine: None
    ) -> Engine:
        """The model's engine, loaded if it is not yet, or if its entry in models.toml is another one since.

        `warm_up` is called with one that was loaded, before any other thread has it. Raises ModelError if the model's
        files are missing or damaged, or the lever cannot be; whatever the device raises when it has too little memory;
        what `warm_up` raises.
        """
        key = (entry.name, levers)
        with self._loading:
            if not self.has(entry, levers):
                before = len(self._engines)
                self._engines.pop(key, None)
                while len(self._engines) >= self._max_models:
                    self._engines.popitem(last=False)
                if len(self._engines) < before:
                    free_memory()  # now: models lie in cycles, and the new one needs the room
                engine = self._load(entry, levers)
                warm_up(engine)
                self._engines[key] = (entry, engine)
            self._engines.move_to_end(key)
            return self._engines[key][1]

    def clear(self) -> None:
        """Gives up every model."""
        self._engines.clear()
        free_memory()

    def _load(self, entry: ModelEntry, levers: LoadLevers) -> Engine:
        try:
            return open_engine(entry, self._device, levers, self._kept)
        except Exception as error:
            if not (self._engines and is_out_of_memory(error)):
                raise
        self.clear()  # alone, it may fit
        return open_engine(entry, self._device, levers, self._kept)

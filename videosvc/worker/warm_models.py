"""Loaded models, kept for the next job: loading takes seconds to minutes, a small clip less than one."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from videosvc.engine.loading import open_engine
from videosvc.worker.memory import free_memory, is_out_of_memory

if TYPE_CHECKING:
    from videosvc.config.models import ModelEntry
    from videosvc.engine.generate import Engine


class WarmModels:
    """Engines on one device by model and lever `weights`; the least recently used one makes room. For one thread."""

    def __init__(self, device: str, max_models: int, quantized: Path | None = None) -> None:
        """`device`: auto, cpu, cuda:N; `quantized`: a folder to keep quantised weights in."""
        self._device = device
        self._max_models = max_models
        self._quantized = quantized
        self._engines: OrderedDict[tuple[str, str], tuple[ModelEntry, Engine]] = OrderedDict()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the loaded models, least recently used first."""
        return tuple(name for name, _ in self._engines)

    def is_warm(self, model: str, weights: str) -> bool:
        """Whether `get` would find it loaded, if its entry is the same still."""
        return (model, weights) in self._engines

    def get(self, entry: ModelEntry, weights: str = "native") -> Engine:
        """The model's engine, loaded if it is not yet, or if its entry in models.toml is another one since.

        Raises ModelError if its files are missing or damaged, or the lever cannot be; whatever the device raises when
        it has too little memory.
        """
        known = self._engines.pop((entry.name, weights), None)
        if known is None or known[0] != entry:
            known = None  # so that its memory is free before the new one is loaded
            while len(self._engines) >= self._max_models:
                self._engines.popitem(last=False)
            known = (entry, self._load(entry, weights))
        self._engines[entry.name, weights] = known
        return known[1]

    def clear(self) -> None:
        """Gives up every model."""
        self._engines.clear()
        free_memory()

    def _load(self, entry: ModelEntry, weights: str) -> Engine:
        try:
            return open_engine(entry, self._device, weights, self._quantized)
        except Exception as error:
            if not (self._engines and is_out_of_memory(error)):
                raise
        self.clear()  # alone, it may fit
        return open_engine(entry, self._device, weights, self._quantized)

"""Which device a quote is for: the one that works on jobs now."""

from __future__ import annotations

import time

from videosvc.config.reload import LiveConfig
from videosvc.config.settings import Settings
from videosvc.pricing.planner import Planner
from videosvc_queue.store import Store

KNOWN_FOR_S = 5.0  # workers come and go slowly; a create should not ask SQL for them


class Planners:
    """A planner for each device seen. Threads may ask at once: at worst both make the same one."""

    def __init__(self, config: LiveConfig, settings: Settings, store: Store) -> None:
        self._config = config
        self._settings = settings
        self._store = store
        self._planners: dict[str, Planner] = {}
        self._device = "cpu"
        self._looked_at = float("-inf")

    def current(self) -> Planner:
        """For the device of the workers; while there are none, of the last ones."""
        self._config.refresh()  # an edit counts from the next job on
        now = time.monotonic()
        if now - self._looked_at > KNOWN_FOR_S:
            self._looked_at = now
            # In a mixed fleet the first by name, so that replicas quote alike.
            self._device = min((worker.device for worker in self._store.live_workers()), default=self._device)
        if self._device not in self._planners:
            self._planners[self._device] = Planner(self._config.folder, self._settings, self._device)
        return self._planners[self._device]

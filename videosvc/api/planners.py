"""Which device a quote is for, and which models are worked on: what the workers say."""

from __future__ import annotations

import logging
import math
import threading
import time

from videosvc.api.errors import unavailable
from videosvc.config.models import ModelEntry, load_models
from videosvc.config.reload import LiveConfig
from videosvc.config.settings import Settings
from videosvc.engine.loading import NVIDIA_DRIVER
from videosvc.engine.plan import Plan
from videosvc.errors import ModelError, UserError
from videosvc.pricing.planner import Planner, beyond_workers
from videosvc.pricing.quote import Quote
from videosvc_queue.store import Store
from videosvc_queue.workers import Worker

log = logging.getLogger(__name__)

KNOWN_FOR_S = 5.0  # workers come and go slowly; a create should not ask SQL for them


class Planners:
    """A planner for each device seen. Threads may ask at once: at worst both make the same one."""

    def __init__(self, config: LiveConfig, settings: Settings, store: Store) -> None:
        self._config = config
        self._settings = settings
        self._store = store
        self._planners: dict[str, Planner] = {}
        # Until the first worker was heard of: a CPU's, unless there may be a GPU whose worker still loads its model.
        self._device = "cpu" if settings.device == "cpu" or not NVIDIA_DRIVER.exists() else None
        self._live: list[Worker] = []
        self._looked_at = float("-inf")
        self._kinds: set[str] = set()  # of devices, of the live workers
        self._fetched: frozenset[ModelEntry] = frozenset()
        self._fetching = threading.Lock()

    def current(self) -> Planner:
        """For the device of the workers; while there are none, of the last ones. Raises ApiError 503."""
        self._config.refresh()  # an edit counts from the next job on
        self._look()
        if self._device is None:
            raise unavailable("no worker was heard of yet, so there is no device to price for; try again")
        if self._device not in self._planners:
            self._planners[self._device] = Planner(self._config.folder, self._settings, self._device, fetches=False)
        return self._planners[self._device]

    def require_worker(self, model: str) -> None:
        """Raises UserError if there are workers, and none of them takes this model: its jobs would wait for ever."""
        self._look()
        if self._live and not any(model in worker.routes for worker in self._live):
            message = f"model: no worker runs {model!r} yet; a worker takes up models.toml when it starts"
            raise UserError(message, param="model")

    def require_levers(self, quote: Quote) -> None:
        """Raises UserError if there are workers of the model, and none of them can run it as the plan says."""
        if (reason := self.why_not(quote.plan)) is not None:
            raise beyond_workers(quote.preset, quote.plan.model, reason)

    def why_not(self, plan: Plan) -> str | None:
        """Why no worker of the plan's model can run it with its levers; None if one can, or there are no workers."""
        pulled = [f"weights={plan.weights}", f"{plan.model} frame_cache={plan.frame_cache}"]
        pulled += ["compile=true"] if plan.compile else []
        self._look()
        takers = [worker for worker in self._live if plan.model in worker.routes]
        reasons = [next((w.refuses[lever] for lever in pulled if lever in w.refuses), None) for w in takers]
        return None if None in reasons else next(iter(reasons), None)

    def _fetch_models(self) -> None:
        """In a thread, those of a hub that are not on this machine: a price is worked out from a model's files."""
        entries = frozenset(e for e in load_models(self._config.folder).values() if e.revision is not None)
        if entries != self._fetched and not self._fetching.locked():
            threading.Thread(target=self._fetch, args=[entries], name="fetch-models", daemon=True).start()

    def _fetch(self, entries: frozenset[ModelEntry]) -> None:
        """What fails is tried again at the next look."""
        with self._fetching:
            try:
                for entry in entries:
                    entry.folder()
            except ModelError as error:
                log.error("%s", error.message)
            else:
                self._fetched = entries

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked_at <= KNOWN_FOR_S:
            return
        self._looked_at = now
        self._fetch_models()
        self._live = self._store.live_workers()
        known = self._live or self._store.live_workers(within_s=math.inf)
        # In a mixed fleet the first by name, so that replicas quote alike.
        self._device = min((worker.device for worker in known), default=self._device)
        kinds = {worker.device for worker in self._live}
        if len(kinds) > 1 and kinds != self._kinds:
            log.warning("workers run on %s; all quotes are for %s", " and ".join(sorted(kinds)), self._device)
        self._kinds = kinds

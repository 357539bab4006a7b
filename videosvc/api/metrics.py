"""What Prometheus reads: requests, open streams, the queue as it is when it asks, and what workers have counted."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from videosvc_queue.store import Store

FIGURES = {  # of a worker, as it names them
    "prompt_cache_hits": "prompts whose embedding was remembered",
    "prompt_cache_misses": "prompts that had to be encoded",
}
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)  # upper bounds; the targets are 0.02 and 0.05


class Metrics:
    """Of one process; each app has its own."""

    def __init__(self, store: Store) -> None:
        self._registry = CollectorRegistry()
        labels = ("method", "route")
        self.requests = Counter(
            "videosvc_requests", "HTTP requests answered", (*labels, "status"), registry=self._registry
        )
        self.seconds = Histogram(
            "videosvc_request_seconds", "until an answer began", labels, buckets=SECONDS, registry=self._registry
        )
        self._streams = Gauge("videosvc_event_streams", "open event streams", registry=self._registry)
        self._open = 0
        self._registry.register(QueueCollector(store))

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def streams(self) -> int:
        """Open event streams."""
        return self._open

    @contextmanager
    def stream(self) -> Iterator[None]:
        """While it is open. For the event loop's thread alone."""
        self._open += 1
        self._streams.set(self._open)
        try:
            yield
        finally:
            self._open -= 1
            self._streams.set(self._open)


class QueueCollector(Collector):
    def __init__(self, store: Store) -> None:
        self._store = store

    def describe(self) -> Iterable[Metric]:
        """Nothing: else registering would ask the database."""
        return ()

    def collect(self) -> Iterable[Metric]:
        queued = GaugeMetricFamily("videosvc_jobs_queued", "jobs waiting for a worker", labels=("model", "tier"))
        for backlog in self._store.rings_needed():
            queued.add_metric((backlog.route, str(backlog.tier)), backlog.jobs)
        running = GaugeMetricFamily(
            "videosvc_jobs_in_progress", "jobs on a worker", value=len(self._store.heartbeats())
        )
        live = self._store.live_workers()
        workers = GaugeMetricFamily("videosvc_workers", "workers heard of lately", value=len(live))
        counted = [CounterMetricFamily(f"videosvc_{name}", text, labels=("worker",)) for name, text in FIGURES.items()]
        for (name, family), worker in itertools.product(zip(FIGURES, counted, strict=True), live):
            if name in worker.figures:
                family.add_metric((worker.name,), worker.figures[name])
        return (queued, running, workers, *counted)


class CountRequests:
    """ASGI middleware: Starlette's own kind would put a task and a queue around every stream."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                # The route's pattern, not the path: one series for all videos. What fits no route has none.
                route = getattr(scope.get("route"), "path", "")
                labels = (scope["method"] if route else "", route)
                self._metrics.requests.labels(*labels, message["status"]).inc()
                self._metrics.seconds.labels(*labels).observe(time.perf_counter() - began)
            await send(message)

        await self._app(scope, receive, counted)

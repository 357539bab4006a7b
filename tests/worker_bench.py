"""A worker's bench: jobs are run as its process does."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from videosvc.artifacts.store import ArtifactStore
from videosvc.engine.generate import Engine
from videosvc_queue.drain import Drain
from videosvc_queue.job import Job
from videosvc_queue.runner import Handler, run_one
from videosvc_queue.store import Store


@dataclass
class Bench:
    """Runs jobs as a worker's process does, and looks at what came of them."""

    store: Store
    bus: Any  # HookedBus
    artifacts: ArtifactStore

    def run(self, handler: Handler, drain: Drain | None = None) -> Job:
        """The fairest job's row after an attempt at it."""
        taken = run_one(self.store, self.bus, handler, ["toyworld"], "worker-1", drain=drain)
        assert taken is not None
        return self.row(taken)

    def row(self, job: Job) -> Job:
        row = self.store.get(job.id)
        assert row is not None
        return row

    def video(self, job: Job) -> bytes:
        return b"".join(self.artifacts.open(self.row(job).result["artifacts"]["video"]["key"]))  # type: ignore[index]

    def on(self, kind: str, number: int, act: Callable[[], object]) -> None:
        """Acts once, right after that many events of a kind."""
        self.bus.calls = 0
        self.bus.hook = (kind, lambda calls: act() if calls == number else None)


def break_engine(patch: pytest.MonkeyPatch, error: Exception, after: int = 1) -> None:
    """After so many events."""
    whole = Engine.run

    def broken(self: Engine, *arguments: Any) -> Any:
        yield from itertools.islice(whole(self, *arguments), after)
        raise error

    patch.setattr(Engine, "run", broken)

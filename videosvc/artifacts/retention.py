"""Clips are kept for a while only: files go first, then the row says so, without its tenant's words."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from videosvc.artifacts.store import ArtifactStore
from videosvc_queue.job import Job
from videosvc_queue.store import Store
from videosvc_queue.ticker import Ticker

SWEEP_S = 30.0  # content goes at most so late; an answer says `content_expired` in time all the same
BATCH = 100  # jobs read at once
ORPHAN_S = 24 * 3600.0  # a picture is stored moments before its job is; without one so long after, its API died between
ORPHANS_EVERY_S = 3600.0  # it lists the whole store
WORDS = ("prompt", "negative_prompt")  # of a plan


class Sweeper(Ticker):
    """Removes what has expired. Any number may run at once: removing twice does no harm."""

    def __init__(self, store: Store, artifacts: ArtifactStore, retention_s: float) -> None:
        """`retention_s`: after the end of a job without a clip, which has no time of its own."""
        super().__init__("sweeper", self.tick, SWEEP_S)
        self._store = store
        self._artifacts = artifacts
        self._retention_s = retention_s
        self._orphans_at = 0.0

    def tick(self, now: float | None = None) -> int:
        """Removes the artifacts of jobs expired at `now` (Unix seconds), and at times orphans; returns of how many.

        Raises OSError, the last one, if some cannot be removed; the others are.
        """
        now = time.time() if now is None else now
        failures: list[OSError] = []  # the newest one: there may be thousands
        removed = self._remove_expired(now, failures)
        if now >= self._orphans_at:
            self._orphans_at = now + ORPHANS_EVERY_S
            removed += self._remove_orphans(now - ORPHAN_S, failures)
        if failures:
            raise failures[-1]
        return removed

    def _remove_expired(self, now: float, failures: list[OSError]) -> int:
        removed = 0
        for job in self._expired(now):
            try:
                self._artifacts.delete(job.id)
            except OSError as error:
                failures[:] = [error]
                continue
            # After the files: a crash between the two leaves a row to be swept again, not a file nobody remembers.
            detail = {name: value for name, value in job.detail.items() if name != "warnings"}  # they quote the prompt
            self._store.mark_removed(job.id, without_words(job.payload), detail)
            removed += 1
        return removed

    def _expired(self, now: float) -> Iterator[Job]:
        """Each once, so that none that cannot be removed keeps those behind it."""
        behind: Job | None = None
        while True:
            batch = self._store.expired_artifacts(now, BATCH, self._retention_s, behind)
            for job in batch:
                if self.stopping:
                    return
                yield job
            if len(batch) < BATCH:
                return
            behind = batch[-1]

    def _remove_orphans(self, before: float, failures: list[OSError]) -> int:
        """What jobs were to start from that then never came to be, if it was stored before then (Unix seconds)."""
        removed = 0
        try:
            kept = self._artifacts.jobs()
            for start in range(0, len(kept), BATCH):
                for job_id in self._store.without_job(kept[start : start + BATCH]):
                    if self._artifacts.has_only_input(job_id, before):
                        self._artifacts.delete(job_id)
                        removed += 1
        except OSError as error:
            failures[:] = [error]
        return removed


def without_words(payload: dict[str, Any]) -> dict[str, Any]:
    """A job's payload without what its tenant wrote: empty where it must be a text."""
    match payload:
        case {"quote": {"plan": dict(plan), **quote}, **rest}:
            blank = {name: "" for name in WORDS if plan.get(name) is not None}
            return {**rest, "quote": {**quote, "plan": {**plan, **blank}}}
    return {}

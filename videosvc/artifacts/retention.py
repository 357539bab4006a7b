"""Clips are kept for a while only: files go first, then the row says so."""

from __future__ import annotations

import time

from videosvc.artifacts.store import ArtifactStore
from videosvc_queue.store import Store

BATCH = 100  # jobs a tick


class Sweeper:
    """Removes what has expired. Any number may run at once: removing twice does no harm."""

    def __init__(self, store: Store, artifacts: ArtifactStore) -> None:
        self._store = store
        self._artifacts = artifacts

    def tick(self, now: float | None = None) -> int:
        """Removes the artifacts of jobs expired at `now` (Unix seconds); returns of how many.

        Raises OSError if some cannot be removed; the others are.
        """
        removed = 0
        failure: OSError | None = None
        for job in self._store.expired_artifacts(time.time() if now is None else now, BATCH):
            try:
                self._artifacts.delete(job.id)
            except OSError as error:
                failure = error
                continue
            # After the files: a crash between the two leaves a row to be swept again, not a file nobody remembers.
            self._store.mark_removed(job.id)
            removed += 1
        if failure is not None:
            raise failure
        return removed

"""Where a job goes on after its worker was stopped or lost: one file a job in the data folder."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from videosvc.engine.checkpoint import Checkpoint

log = logging.getLogger(__name__)

KEPT_S = 24 * 3600.0  # of jobs that ended elsewhere: cancelled while they waited, or given up by the reconciler


class CheckpointFolder:
    """Shared by all workers of a data folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def load(self, job_id: str) -> Checkpoint | None:
        """The job's newest one; None if there is none, or if it cannot be read."""
        path = self._path(job_id)
        if not path.exists():
            return None
        try:
            return Checkpoint.load(path)
        except ValueError as error:
            log.warning("job %s starts over: %s", job_id, error)
            return None

    def save(self, job_id: str, checkpoint: Checkpoint) -> bool:
        """Replaces the one before, whole. False if it cannot be written: the job can do without."""
        try:
            checkpoint.save(self._path(job_id))
        except OSError as error:
            log.warning("job %s goes on without a checkpoint: %s", job_id, error)
            return False
        return True

    def remove(self, job_id: str) -> None:
        """Of a job that has ended. Where that cannot be, `tidy` will."""
        try:
            self._path(job_id).unlink(missing_ok=True)
        except OSError as error:
            log.warning("the checkpoint of job %s stays for now: %s", job_id, error)

    def tidy(self, now: float | None = None) -> None:
        """Removes those nobody has written for a day at `now`, in Unix seconds."""
        oldest = (time.time() if now is None else now) - KEPT_S
        for path in self._folder.iterdir():
            try:
                if path.stat().st_mtime < oldest:
                    path.unlink()
            except FileNotFoundError:  # another worker was faster
                continue

    def _path(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.safetensors"

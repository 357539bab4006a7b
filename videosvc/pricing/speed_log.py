"""How slow a device is now, from the receipts of its latest jobs: the shape of the fit stays, its scale moves.

Shared machines run at half speed for a while and then recover, and single jobs take thrice as long for no reason.
So the scale is a median of few, and the spread of the bound comes from what this very estimate got wrong before.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from statistics import median
from typing import Annotated

from pydantic import Field, ValidationError

from videosvc.config.toml_file import Section

RECENT = 5  # receipts whose median is the scale: three slow ones in a row move it
RECENT_S = 900.0  # older than this, a receipt says how the device usually is, not how it is now
KEPT = 64
COVERED = 0.95
LEAST_SPREAD = 1.05


class Entry(Section):
    at: float  # Unix seconds
    ratio: float = Field(gt=0)  # measured over fitted seconds


class SpeedLog(Section):
    """The latest jobs of one device and model, oldest first."""

    fingerprint: str
    entries: Annotated[tuple[Entry, ...], Field(max_length=KEPT)] = ()

    def slowness(self, now: float) -> float:
        """How many times as long as fitted a job takes at `now`, in Unix seconds."""
        return _slowness(self.entries, now)

    def spread(self, residuals: Sequence[float]) -> float:
        """The factor that covers 95 of 100 jobs, from the fit's own residuals and from past jobs' surprises."""
        surprises = [
            entry.ratio / _slowness(self.entries[:number], entry.at)
            for number, entry in enumerate(self.entries)
            if number
        ]
        ordered = sorted((*residuals, *surprises))
        rank = min(len(ordered), ceil(COVERED * (len(ordered) + 1)))  # the conformal quantile: honest for few, too
        return max(LEAST_SPREAD, ordered[rank - 1])


def _slowness(entries: Sequence[Entry], now: float) -> float:
    recent = [entry.ratio for entry in entries[-RECENT:] if now - entry.at <= RECENT_S]
    return median(recent or [entry.ratio for entry in entries] or [1.0])


def load_speed_log(path: Path, fingerprint: str) -> SpeedLog:
    """The log in `path`; an empty one if it is missing, damaged or of another fit."""
    try:
        log = SpeedLog.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        log = None
    return log if log is not None and log.fingerprint == fingerprint else SpeedLog(fingerprint=fingerprint)


def append_speed(path: Path, fingerprint: str, ratio: float) -> None:
    """Adds a job, safe when several workers of a machine do so at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        log = load_speed_log(path, fingerprint)
        entries = (*log.entries, Entry(at=time.time(), ratio=ratio))[-KEPT:]
        temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        temporary.write_text(SpeedLog(fingerprint=fingerprint, entries=entries).model_dump_json(), encoding="utf-8")
        temporary.replace(path)

"""How slow a device is now, from the receipts of its latest jobs: the shape of the fit stays, its scale moves.

Shared machines run at half speed for a while and then recover, and single jobs take thrice as long for no reason.
So the scale is a median of few, in which a receipt that is alone moves nothing, and the spread of the bound comes from
what this very estimate got wrong before.
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

from pydantic import Field

from videosvc.config.json_file import read_json_file
from videosvc.config.toml_file import Section

RECENT = 5  # receipts whose median is the scale: three slow ones in a row move it
RECENT_S = 900.0  # older than this, a receipt says how the device usually is, not how it is now
BELIEVED = 3  # of fewer receipts, the missing ones are taken to be as before: one slow job is not believed
KEPT = 64
COVERED = 0.95
LEAST_SPREAD = 1.05
MOST_SPREAD = 3.0  # what was measured is not bounded more widely than what was guessed
ALONE = 2.0  # the largest surprise, so many times the next one, is a stall: of those who may go beyond their bound


class Entry(Section):
    at: float  # Unix seconds
    ratio: float = Field(gt=0)  # measured over fitted seconds


class SpeedLog(Section):
    """The latest jobs of one fit, or of all fits on a device, oldest first."""

    fingerprint: str  # of the fit that their ratios are to; the device, if each is to its own
    entries: Annotated[tuple[Entry, ...], Field(max_length=KEPT)] = ()

    def slowness(self, now: float, guessed: bool = False, others: Sequence[Entry] = ()) -> float:
        """How many times as long as fitted a job takes at `now`, in Unix seconds.

        `guessed`: there is no fit, only a guess, and so the very first receipt knows better. `others`: jobs of other
        fits on the device; where too few of this one are recent, they tell how fast it is now.
        """
        return _slowness(self.entries, now, None if guessed else 1.0, others)

    def knows(self, now: float) -> bool:
        """Whether enough of its jobs are recent for others' to tell nothing more."""
        return len(_recent(self.entries, now)) >= BELIEVED

    def spread(self, residuals: Sequence[float]) -> float:
        """The factor that covers 95 of 100 jobs, from past jobs' surprises, and the fit's residuals for want of those.

        Each job takes a residual's place: a calibration's clips were fitted, not foreseen, and so came nearer. Beside
        all surprises they left 5.2 % (no spells) to 6.9 % (many) of simulated jobs beyond their bound.
        """
        surprises = [
            entry.ratio / _slowness(self.entries[:number], entry.at)
            for number, entry in enumerate(self.entries)
            if number
        ]
        ordered = sorted((*residuals[len(surprises) :], *surprises))
        if (1 - COVERED) * len(ordered) >= 1 and ordered[-1] > ALONE * ordered[-2]:
            ordered.pop()  # else the rank below would be its own, with fewer than 39, and a stall set the price
        rank = min(len(ordered), ceil(COVERED * (len(ordered) + 1)))  # the conformal quantile: honest for few, too
        return min(MOST_SPREAD, max(LEAST_SPREAD, ordered[rank - 1]))


def _slowness(entries: Sequence[Entry], now: float, fitted: float | None = 1.0, others: Sequence[Entry] = ()) -> float:
    usually = _settled([entry.ratio for entry in entries], fitted)
    return _settled(_recent(entries, now), _settled(_recent(others, now), usually))


def _recent(entries: Sequence[Entry], now: float) -> list[float]:
    return [entry.ratio for entry in entries[-RECENT:] if now - entry.at <= RECENT_S]


def _settled(ratios: Sequence[float], before: float | None) -> float:
    """The median; of fewer than `BELIEVED`, those that are missing are `before`, if that is known."""
    missing = () if before is None else (BELIEVED - len(ratios)) * (before,)
    return median((*ratios, *missing) or (1.0,))


def load_speed_log(path: Path, fingerprint: str) -> SpeedLog:
    """The log in `path`; an empty one if it is missing, damaged or of another fit."""
    log = read_json_file(path, SpeedLog)
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

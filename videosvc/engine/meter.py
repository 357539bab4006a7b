"""Where a job's time goes.

Compute is counted in wall seconds between moments at which the device stands still: for so long it is held, and
nobody else can have it. On a GPU this is what a pair of CUDA events around each piece would give, plus the gaps in
which the device waits for the host, which its owner pays for as well.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, Decimal
from typing import Any

import torch

from videosvc.families.device_label import device_label

STAGES = ("text", "denoise", "decode", "mux")
SHOWN = Decimal("0.0001")  # of a second


@dataclass(frozen=True, slots=True)
class ComputeReceipt:
    """The compute part of a receipt: seconds, in all and by stage, those before a resume included."""

    by_stage: Mapping[str, float]
    device: str
    resumed: bool
    steps: tuple[int, ...] = ()  # that each chunk really took
    wasted_s: float = 0.0  # done again after a resume, or beyond a cap: on the house
    shared_s: Mapping[int, float] = field(default_factory=dict)  # of forwards with others, by how many clips
    closing_s: float = 0.0  # of all these, for closing the file: what a cap does not refuse
    frames: int = 0  # in the file; 0: there is none

    @property
    def compute_seconds(self) -> float:
        return sum(self.by_stage.values())

    def as_dict(self) -> dict[str, Any]:
        """Stages are rounded down, and the whole is their sum: none of it is shown as more than a cap that was kept."""
        by_stage = {
            stage: Decimal(repr(seconds)).quantize(SHOWN, ROUND_FLOOR) for stage, seconds in self.by_stage.items()
        }
        return {
            "compute_seconds": float(sum(by_stage.values())),
            "by_stage": {stage: float(seconds) for stage, seconds in by_stage.items()},
            "device": self.device,
            "resumed": self.resumed,
            "wasted_compute_seconds": round(self.wasted_s, 4),
        }


class Meter:
    """Adds up seconds by stage. Time outside any, such as a consumer's, is not counted."""

    def __init__(
        self,
        device: torch.device,
        spent: Mapping[str, float] | None = None,
        limit_s: float = math.inf,
        clock: Callable[[], float] = time.perf_counter,
        held: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """`spent`: seconds by stage of an earlier run that this one continues; beyond `limit_s` they are wasted.

        `held`: has the device for a stage; waiting for it is not counted.
        """
        self._device = device
        self._resumed = spent is not None
        self._seconds = dict.fromkeys(STAGES, 0.0) | dict(spent or {})
        self._limit_s = limit_s
        self._wasted_s = self._closing_s = 0.0
        self._clock = clock
        self._held = held

    @contextlib.contextmanager
    def stage(self, name: str, again: bool = False) -> Iterator[None]:
        """Counts what happens within. `again`: it was counted before a resume, and now is wasted."""
        with self._held():
            start = self._clock()
            try:
                yield
                if self._device.type == "cuda":
                    torch.cuda.synchronize(self._device)  # else the next stage would pay for this one's kernels
            finally:
                elapsed = self._clock() - start
                # Budget lets nothing begin that may come so far; should a machine stall all the same, we pay for it.
                counted = 0.0 if again else min(elapsed, max(0.0, self._limit_s - self.total_s))
                self._seconds[name] += counted
                self._wasted_s += elapsed - counted

    @contextlib.contextmanager
    def closing(self) -> Iterator[None]:
        """Counts closing the file: a stage "mux" that is told for itself, too."""
        before_s = self.elapsed_s
        with self.stage("mux"):
            yield
        self._closing_s = self.elapsed_s - before_s

    @property
    def spent(self) -> dict[str, float]:
        """Seconds by stage so far, a copy."""
        return dict(self._seconds)

    @property
    def total_s(self) -> float:
        return sum(self._seconds.values())

    @property
    def elapsed_s(self) -> float:
        """What is wasted included."""
        return self.total_s + self._wasted_s

    def receipt(
        self, steps: tuple[int, ...] = (), shared_s: Mapping[int, float] | None = None, frames: int = 0
    ) -> ComputeReceipt:
        """`steps`: how many each chunk took; `shared_s`, `frames`: see ComputeReceipt."""
        return ComputeReceipt(
            by_stage=self.spent,
            device=device_label(self._device),
            resumed=self._resumed,
            steps=steps,
            wasted_s=self._wasted_s,
            shared_s=dict(shared_s or {}),
            closing_s=self._closing_s,
            frames=frames,
        )

"""Where a job's time goes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

STAGES = ("text", "denoise", "decode", "mux")


@dataclass(frozen=True, slots=True)
class ComputeReceipt:
    """The compute part of a receipt: seconds, in all and by stage, those before a resume included."""

    by_stage: Mapping[str, float]
    device: str
    resumed: bool

    @property
    def compute_seconds(self) -> float:
        return sum(self.by_stage.values())

    def as_dict(self) -> dict[str, Any]:
        return {
            "compute_seconds": round(self.compute_seconds, 4),
            "by_stage": {stage: round(seconds, 4) for stage, seconds in self.by_stage.items()},
            "device": self.device,
            "resumed": self.resumed,
        }


class Meter:
    """Adds up wall seconds by stage. Time outside any, such as a consumer's, is not counted."""

    def __init__(self, device: torch.device, spent: Mapping[str, float] | None = None) -> None:
        """`spent`: seconds by stage of an earlier run that this one continues."""
        self._device = device
        self._resumed = spent is not None
        self._seconds = dict.fromkeys(STAGES, 0.0) | dict(spent or {})

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)  # else the next stage would pay for this one's kernels
        finally:
            self._seconds[name] += time.perf_counter() - start

    @property
    def spent(self) -> dict[str, float]:
        """Seconds by stage so far, a copy."""
        return dict(self._seconds)

    def receipt(self) -> ComputeReceipt:
        name = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else self._device.type
        return ComputeReceipt(self.spent, name, self._resumed)

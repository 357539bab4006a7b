"""Joules a job took, and how that is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

EnergySource = Literal["nvml", "rapl", "rated_watts"]

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True, slots=True)
class Energy:
    joules: float
    source: EnergySource  # a GPU's counter, the CPU packages' counters, or devices.toml's watts times seconds


def rated_energy(watts: float, compute_s: float) -> Energy:
    return Energy(watts * compute_s, "rated_watts")


class EnergyMeter:
    """Reads a device's energy counter; whatever else runs on the device is in it.

    A GPU's counter needs nvidia-ml-py (the extra `cuda`); a CPU's needs a readable RAPL, which most systems keep for
    root. Without one there is nothing to read.
    """

    def __init__(self, device: torch.device, powercap: Path = POWERCAP) -> None:
        """Starts measuring."""
        self._source: EnergySource = "nvml" if device.type == "cuda" else "rapl"
        self._counters = _gpu_counters(device) if device.type == "cuda" else _cpu_counters(powercap)
        self._begun = [counter.read() for counter in self._counters]

    def read(self) -> Energy | None:
        """Since it was made; None where the device has no counter."""
        if not self._counters:
            return None
        spent = (counter.since(begun) for counter, begun in zip(self._counters, self._begun, strict=True))
        return Energy(sum(spent), self._source)


@dataclass(frozen=True, slots=True)
class _Counter:
    """Counts up, in units of `joules`, and begins again at `size` (0: never)."""

    read: Callable[[], int]
    joules: float
    size: int = 0

    def since(self, begun: int) -> float:
        counted = self.read() - begun
        return (counted + self.size if counted < 0 else counted) * self.joules


def _gpu_counters(device: torch.device) -> list[_Counter]:
    try:
        import pynvml
        import torch

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # the library is missing, or the GPU is older than its counter
        return []
    return [_Counter(lambda: int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)), 1e-3)]


def _cpu_counters(powercap: Path) -> list[_Counter]:
    """One for each CPU package; "intel-rapl:0" is one, on AMD too, "intel-rapl:0:1" a part of it."""
    counters = []
    for package in sorted(powercap.glob("intel-rapl:*")):
        if package.name.count(":") != 1:
            continue
        file = package / "energy_uj"
        try:
            _read_whole(file)
            size = _read_whole(package / "max_energy_range_uj")
        except (OSError, ValueError):
            return []
        counters.append(_Counter(partial(_read_whole, file), 1e-6, size))
    return counters


def _read_whole(file: Path) -> int:
    return int(file.read_text())

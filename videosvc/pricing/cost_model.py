"""What a plan takes on one kind of device: expected, at most, and piece by piece."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from videosvc.config.models import ModelEntry
from videosvc.engine.costs import ComputeCap, RunCosts
from videosvc.engine.plan import Plan
from videosvc.families.attention_choice import choice_path, chosen
from videosvc.pricing.batching import BatchShare, most_clips, saved_s
from videosvc.pricing.calibration import (
    Calibration,
    calibration_path,
    device_log_path,
    fingerprint_of,
    load_calibration,
)
from videosvc.pricing.coefficients import Coefficients, guess
from videosvc.pricing.features import run_features
from videosvc.pricing.shape import ModelShape, read_shape
from videosvc.pricing.speed_log import Entry, append_speed, load_speed_log

if TYPE_CHECKING:
    from videosvc.engine.meter import ComputeReceipt

# Where nothing was measured.
GUESSED_SPREAD = 3.0
GUESSED_COLD_S = 0.5


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds of compute of one plan."""

    compute_s: float  # expected
    bound_s: float  # 95 of 100 such jobs take no more
    needed_s: float  # the smallest compute cap under which it would run whole
    by_stage: Mapping[str, float]  # expected
    calibrated: bool  # False: a careful guess


@dataclass(frozen=True, slots=True)
class Fit:
    """One model with one set of levers on one device, as that device is now."""

    shape: ModelShape
    coefficients: Coefficients
    slowness: float  # 2: takes twice as long as when it was measured
    spread: float
    cold_s: float  # by which the first clip of a process takes longer
    calibrated: bool
    batch: tuple[BatchShare, ...] = ()  # what was measured of clips that are denoised together

    def costs(self, plan: Plan, cold: bool = False) -> RunCosts:
        work = run_features(plan, self.shape)
        return self.coefficients.costs(work, self.slowness, self.cold_s if cold else 0.0, self.spread, plan.later_steps)

    def estimate(self, plan: Plan, cold: bool = False) -> Estimate:
        costs = self.costs(plan, cold)
        total_s = costs.total_s(plan.most_steps)
        return Estimate(
            compute_s=total_s,
            bound_s=self.spread * total_s,
            needed_s=costs.needed_s(plan.most_steps),
            by_stage={
                "text": costs.text_s,
                "denoise": sum(
                    plan.steps_of(number) * chunk.step_s + chunk.append_s for number, chunk in enumerate(costs.chunks)
                ),
                "decode": sum(chunk.decode_s for chunk in costs.chunks),
                "mux": sum(chunk.mux_s for chunk in costs.chunks) + costs.finish_s,
            },
            calibrated=self.calibrated,
        )


class CostModel:
    """The cost model of one kind of device. Reads its files anew whenever they change; needs no torch."""

    def __init__(self, data_dir: Path, device_name: str) -> None:
        """`device_name`: as a receipt has it: "cpu", "NVIDIA H200"."""
        self.device_name = device_name
        self._data_dir = data_dir
        self._shapes: dict[str, tuple[tuple[ModelEntry, int | None], ModelShape, str]] = {}

    def fit(self, entry: ModelEntry, plan: Plan) -> Fit:
        """The fit for `plan`'s levers. Raises ModelError if the model's folder is missing or damaged."""
        shape = self._shape(entry)[0]
        calibration, path, of_fit = self._measured(entry, plan)
        log, now = load_speed_log(path, of_fit), time.time()
        if calibration is None:
            guessed = guess(shape, self.device_name, plan.decode, entry.offload)
            return Fit(shape, guessed, log.slowness(now, guessed=True), GUESSED_SPREAD, GUESSED_COLD_S, False)
        others = () if log.knows(now) else self._jobs_since(calibration.measured_at)
        slowness, spread = log.slowness(now, others=others), log.spread(calibration.residuals)
        return Fit(shape, calibration.coefficients, slowness, spread, calibration.cold_s, True, calibration.batch)

    def estimate(self, plan: Plan, entry: ModelEntry, cold: bool = False) -> Estimate:
        """`cold`: for the first clip of a process. Raises ModelError."""
        return self.fit(entry, plan).estimate(plan, cold)

    def compute_cap(self, plan: Plan, entry: ModelEntry, max_compute_s: float, cold: bool = False) -> ComputeCap:
        """What `Engine.run` needs to keep a run of `plan` below `max_compute_s` on this device. Raises ModelError."""
        return ComputeCap(max_compute_s, self.fit(entry, plan).costs(plan, cold))

    def most_clips(self, plan: Plan, entry: ModelEntry, allowed: int) -> int:
        """As many clips like `plan` as had better be denoised together, of those `allowed`. Raises ModelError."""
        return most_clips(self.fit(entry, plan).batch, plan, allowed)

    def batch_saved_s(self, plan: Plan, entry: ModelEntry, receipt: ComputeReceipt) -> float:
        """Seconds that a run of `plan` took less than alone. Raises ModelError."""
        return saved_s(self.fit(entry, plan).batch, plan, receipt.shared_s) if receipt.shared_s else 0.0

    def observe(self, plan: Plan, entry: ModelEntry, receipt: ComputeReceipt, cold: bool = False) -> None:
        """Learns from a job that ended on this device. A resumed one teaches nothing: others did part of it.

        Raises ModelError, OSError (the data folder cannot be written to).
        """
        if receipt.resumed:
            return
        fit = self.fit(entry, plan)
        costs = fit.costs(plan, cold)
        chunks = zip(costs.chunks, receipt.steps, strict=True)
        expected_s = costs.text_s + sum(chunk.total_s(steps) for chunk, steps in chunks) + costs.finish_s
        alone_s = receipt.compute_seconds + receipt.wasted_s + saved_s(fit.batch, plan, receipt.shared_s)
        ratio = fit.slowness * alone_s / expected_s
        self._note(plan, entry, ratio)

    def observe_stopped(self, plan: Plan, entry: ModelEntry, slowness: float | None) -> None:
        """Learns from a job that the cap stopped: its `ComputeCapExceeded.slowness`. Raises as `observe`.

        Else a device that has slowed down would be planned for at its old speed, under tight caps, for ever.
        """
        if slowness is not None:
            self._note(plan, entry, slowness)

    def _note(self, plan: Plan, entry: ModelEntry, slowness: float) -> None:
        calibration, path, of_fit = self._measured(entry, plan)
        append_speed(path, of_fit, slowness)
        # What a guess is off by says nothing of the device, nor how many steps a cache skipped.
        if calibration is not None and plan.step_cache == "none":
            append_speed(device_log_path(self._data_dir, self.device_name), self.device_name, slowness)

    def _jobs_since(self, measured_at: float) -> list[Entry]:
        """Of all fits on the device, those that ran after one of them was measured, and perhaps at another speed."""
        log = load_speed_log(device_log_path(self._data_dir, self.device_name), self.device_name)
        return [job for job in log.entries if job.at >= measured_at]

    def _measured(self, entry: ModelEntry, plan: Plan) -> tuple[Calibration | None, Path, str]:
        """The fit for `plan`'s levers, if there is one; its speed log beside it, and whose that must be.

        Jobs that were held against a guess, or against an earlier fit, say nothing of this one.
        """
        fingerprint = self._shape(entry)[1]
        path = calibration_path(self._data_dir, self.device_name, entry.name, plan)
        calibration = load_calibration(path, fingerprint)
        of_fit = "guess" if calibration is None else f"{calibration.measured_at:.6f}"
        return calibration, path.with_suffix(".log"), f"{fingerprint} {of_fit}"

    def _shape(self, entry: ModelEntry) -> tuple[ModelShape, str]:
        """The model's shape and the fingerprint of what is measured with it, read once for each entry and choice."""
        kept = self._data_dir / "quantized"  # where engines look for the choice as well
        state = entry, _changed_at(choice_path(kept, entry.name, self.device_name)) if entry.attention == "auto" else 0
        known = self._shapes.get(entry.name)
        if known is None or known[0] != state:
            shape = read_shape(entry)
            attention = chosen(entry.attention, kept, entry.name, self.device_name)
            fingerprint = fingerprint_of(shape.model_hash, entry.loading, attention)
            known = self._shapes[entry.name] = (state, shape, fingerprint)
        return known[1], known[2]


def _changed_at(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None

"""A sweep's findings as the table that the planner reads."""

from __future__ import annotations

import time
from importlib.metadata import version

from videosvc import __version__
from videosvc.config.quality import QualityTable, Sweep
from videosvc.pricing.calibration import LIBRARIES
from videosvc.pricing.options import frontier
from videosvc.pricing.tune import Findings, Tuner


def quality_table(tuner: Tuner, found: Findings, clips: int, rates_measured: bool) -> QualityTable:
    """`clips`: of each setting. `rates_measured`: whether the sweep varied frames a second."""
    reference = found.references[-1]
    best = frontier(found.swept)
    everything = dict.fromkeys([*found.references, *found.swept])
    return QualityTable(
        model=tuner.base.model,
        sweep=Sweep(
            score=tuner.score.name,
            method=tuner.score.method,
            reference=str(reference.setting),
            reference_quality=reference.quality,
            clips=clips,
            seconds=tuner.base.seconds,
            seed=tuner.seed,
            device=tuner.rate.device,
            usd_per_hour=float(tuner.rate.usd_per_hour),
            margin=float(tuner.rate.margin),
            model_hash=tuner.engines["native"].family.model_hash,
            versions={"videosvc": __version__, **{library: version(library) for library in LIBRARIES}},
            measured_at=round(time.time(), 3),
        ),
        points=tuple(finding.point(rates_measured, finding in best) for finding in everything),
    )

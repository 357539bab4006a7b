"""A sweep's findings as the table that the planner reads, and back."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from videosvc import __version__
from videosvc.config.quality import QualityTable, Sweep, load_quality_file
from videosvc.errors import ConfigError, UserError
from videosvc.families.load_levers import NO_LEVERS
from videosvc.pricing.calibration import LIBRARIES
from videosvc.pricing.finding import Finding, Findings
from videosvc.pricing.options import frontier

if TYPE_CHECKING:
    from videosvc.pricing.tune import Tuner  # which loads torch


def sweep_of(tuner: Tuner, found: Findings, clips: int) -> Sweep:
    """`clips`: of each setting."""
    reference = found.references[-1]
    return Sweep(
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
        model_hash=tuner.engines[NO_LEVERS].family.model_hash,
        versions={"videosvc": __version__, **{library: version(library) for library in LIBRARIES}},
        measured_at=round(time.time(), 3),
    )


def quality_table(model: str, sweep: Sweep, found: Findings, rates_measured: bool) -> QualityTable:
    """`rates_measured`: whether the sweep varied frames a second."""
    best = frontier(found.swept)
    everything = dict.fromkeys([*found.references, *found.swept])
    return QualityTable(
        model=model,
        sweep=sweep,
        points=tuple(finding.point(rates_measured, finding in best) for finding in everything),
    )


def read_table(path: Path) -> tuple[QualityTable, Sweep]:
    """What a sweep wrote, and how it was made. Raises UserError (from)."""
    try:
        table = load_quality_file(path)
    except OSError as error:
        raise UserError(f"from: {str(path)!r} cannot be read: {error.strerror}", param="from") from error
    except ConfigError as error:
        raise UserError(f"from: {error.message}", param="from") from error
    if table.sweep is None:
        raise UserError(f"from: {str(path)!r} was written by hand: it has no sweep, and so no costs", param="from")
    return table, table.sweep


def findings_of(table: QualityTable, sweep: Sweep, fps: int) -> Findings:
    """What the sweep found. `fps`: where the table says of none. Raises UserError (from)."""
    found = [Finding.of_point(point, fps) for point in table.points]
    last = next((finding for finding in found if str(finding.setting) == sweep.reference), None)
    if last is None:
        raise UserError(f"from: it has no point of its reference, {sweep.reference}", param="from")
    references = [one for one in found if replace(one.setting, size=last.setting.size) == last.setting and one != last]
    swept = [finding for finding in found if finding not in references and finding != last]
    return Findings(tuple(swept), (*references, last))


FIELDS = {"sizes": "size", "fps": "fps", "steps": "steps", "samplers": "sampler", "weights": "weights",
          "frame_caches": "frame_cache", "later_steps": "later_steps"}  # fmt: skip


def narrowed(found: Findings, lists: Mapping[str, str | None]) -> tuple[Finding, ...]:
    """Those of these values; references only where samplers are named.

    `lists`: by the names of FIELDS, with commas between their items; None leaves all. Raises UserError naming the list.
    """
    swept = found.swept if lists["samplers"] is None else (*found.swept, *found.references)
    for name, text in lists.items():
        if text is None:
            continue
        by_value: defaultdict[str, list[Finding]] = defaultdict(list)
        for finding in swept:
            value = getattr(finding.setting, FIELDS[name])
            by_value["all" if value is None else str(value)].append(finding)
        items = dict.fromkeys(item.strip() for item in text.split(","))
        for item in items:
            if item not in by_value:
                raise UserError(f"{name}: {item!r} was not measured; there are {', '.join(by_value)}", param=name)
        swept = tuple(finding for item in items for finding in by_value[item])
    return swept

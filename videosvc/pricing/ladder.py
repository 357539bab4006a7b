"""The plans that may stand in for the one asked for: smaller, of fewer steps, of fewer frames, with other weights or
another frame cache; never shorter."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, product
from types import MappingProxyType
from typing import Any, get_args

from videosvc.config.levers import AVAILABLE, IDLE
from videosvc.config.models import ModelEntry
from videosvc.config.presets import Tradable
from videosvc.config.size import Size
from videosvc.engine.plan import Plan
from videosvc.pricing.calibration import levers_of

STEPS = (150, 100, 75, 50, 40, 30, 25, 20, 16, 12, 10, 8, 6, 4, 3, 2, 1)
# Below these a sampler's clip is not worth its price, however low that is (docs/architecture.md).
FEWEST_STEPS: Mapping[str, int] = MappingProxyType(
    {"flow_map": 1, "draft": 2, "consistency": 1, "unipc": 10, "euler": 20}
)
FEWEST_FPS = 4
TRADABLE: tuple[Tradable, ...] = get_args(Tradable)
LEVERS: tuple[Tradable, ...] = ("weights", "frame_cache")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plan beside the one asked for."""

    plan: Plan
    rank: int  # 0 is the best; what is traded last counts most
    allowed: bool  # False: better than what was asked for in some way; an offer, not a substitute


@dataclass(frozen=True, slots=True)
class _Rung:
    values: Mapping[str, Any]  # by field of the plan
    allowed: bool


def candidates(
    asked: Plan, entry: ModelEntry, trade: tuple[Tradable, ...], levers: Collection[str] = ()
) -> tuple[Candidate, ...]:
    """The best first, `asked` among them. Downward they differ only in what `trade` names, traded in that order.

    `levers`: sets of them (`levers_of`) that may be had beside those of `asked`; of two together each alone as well.
    """
    levers = {levers_of(asked), *levers}
    rungs = {"size": _sizes(asked, entry), "steps": _steps(asked), "fps": _fps(asked)}
    for lever in LEVERS:
        alone: list[dict[str, Any]] = [{lever: value} for value in _values(asked, entry, lever)]
        rungs[lever] = [_Rung(fields, True) for fields in alone if levers_of(replace(asked, **fields)) in levers]
    first_to_last = (*trade, *(what for what in TRADABLE if what not in trade))
    open_rungs = [
        [rung for rung in rungs[what] if what in trade or not rung.allowed or _is(asked, rung)]
        for what in reversed(first_to_last)
    ]
    fields = asked.fields()  # of which each plan is made anew: `replace` takes twice as long, and there are dozens
    places = [
        (Plan(**{**fields, **dict(chain.from_iterable(rung.values.items() for rung in place))}), place)
        for place in product(*open_rungs)
    ]
    priced = [(plan, place) for plan, place in places if levers_of(plan) in levers]
    return tuple(
        Candidate(plan, rank, allowed=all(rung.allowed for rung in place)) for rank, (plan, place) in enumerate(priced)
    )


def other_levers(asked: Plan, entry: ModelEntry, trade: tuple[Tradable, ...]) -> list[Plan]:
    """`asked` with each other set of levers that `trade` allows, the ones that differ in one lever first."""
    values = [_values(asked, entry, lever) if lever in trade else (getattr(asked, lever),) for lever in LEVERS]
    plans = [replace(asked, **dict(zip(LEVERS, pair, strict=True))) for pair in product(*values)][1:]
    return sorted(plans, key=lambda plan: sum(getattr(plan, lever) != getattr(asked, lever) for lever in LEVERS))


def _values(asked: Plan, entry: ModelEntry, lever: Tradable) -> tuple[str, ...]:
    """That of `asked`, and those after it in the family's list, which goes from the most exact on."""
    if lever in IDLE[entry.family]:
        return (getattr(asked, lever),)
    values = AVAILABLE[entry.family][lever]
    return values[values.index(getattr(asked, lever)) :]


def _is(plan: Plan, rung: _Rung) -> bool:
    return all(getattr(plan, field) == value for field, value in rung.values.items())


def _sizes(asked: Plan, entry: ModelEntry) -> list[_Rung]:
    """Those of the model's list that hold the asked size, that size, and those of the list that it holds."""
    here = Size(asked.width, asked.height)
    larger, smaller = [], []
    for size in sorted(map(Size.parse, entry.sizes), key=lambda size: -size.pixels):
        if size != here and here.fits_in(size):
            larger.append(size)
        elif size != here and size.fits_in(here):
            smaller.append(size)
    return [
        _Rung({"width": size.width, "height": size.height}, size not in larger) for size in (*larger, here, *smaller)
    ]


def _steps(asked: Plan) -> list[_Rung]:
    fewer = [steps for steps in STEPS if FEWEST_STEPS[asked.sampler] <= steps < asked.steps]
    if asked.sampler == "draft":  # which takes half of its steps at once
        fewer = [steps for steps in fewer if steps % 2 == 0]
    return [_Rung({"steps": steps}, steps <= asked.steps) for steps in (2 * asked.steps, asked.steps, *fewer)]


def _fps(asked: Plan) -> list[_Rung]:
    return [_Rung({"fps": fps}, True) for fps in (asked.fps, *_halves(asked.fps))]


def _halves(fps: int) -> Iterator[int]:
    while fps // 2 >= FEWEST_FPS:
        fps //= 2
        yield fps

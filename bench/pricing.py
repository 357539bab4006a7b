"""How well costs are foreseen and caps are kept: `python -m bench.pricing`, on a machine that does nothing else.

Calibrates anew, then runs jobs that were not in the calibration's grid, in random order, so that a slow spell of the
machine falls on all kinds alike. Each is foreseen twice before it runs: by the fit alone, and corrected by the
receipts before it. Each runs again on a noisy device, one that has slow spells, and is foreseen by what that device's
receipts taught. Every fourth runs once more, under a random compute cap, on a device that becomes three times slower
halfway: it went beyond that if what ran before the file was closed did, whatever was charged. Every tenth runs a second
time in the same round, as it was: how far its two runs are apart is the machine's own spread, which nobody can foresee,
and tells a quiet machine from a noisy one.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.report import print_table, write_json
from videosvc.bench.machine import describe
from videosvc.bench.measure import Measure
from videosvc.config.models import ModelEntry, load_model
from videosvc.config.request import Request, resolve_plan
from videosvc.config.settings import Settings, config_dir, load_settings
from videosvc.engine.budget import ComputeCapExceeded
from videosvc.engine.costs import ComputeCap
from videosvc.engine.events import Done
from videosvc.engine.generate import Engine
from videosvc.engine.loading import open_engine
from videosvc.engine.meter import ComputeReceipt
from videosvc.engine.plan import Plan
from videosvc.families.device_label import device_label
from videosvc.pricing.calibrate import calibrate
from videosvc.pricing.calibration import calibration_path
from videosvc.pricing.cost_model import CostModel
from videosvc.pricing.planner import Planner

PROMPT = "a red ball bounces on a meadow"
AT_MOST = {
    "jobs beyond their bound: fit": 0.05,
    "jobs beyond their bound: corrected": 0.05,
    "jobs beyond their bound: noisy": 0.05,
    "relative error: corrected": 0.08,  # on a quiet machine
    "relative error: noisy": 0.15,
    "planning: the default request": 5.0,
    "planning: 8 s at 16 fps": 5.0,
    "capped jobs beyond their cap": 0.0,
    "calibration": 60.0,
}
QUIET = 0.08  # the machine's own spread, median; above it the limit is that of a noisy device
SPELL_S = 60.0  # of a noisy device, on average
NOISE = (1.0, 2.0)  # how slow it is in turns; this project's own machines were seen to fall to half their speed
SUDDEN = 3.0  # how slow a device becomes under a capped job


def uneven_clock(spells: Sequence[tuple[float, float]]) -> Callable[[], float]:
    """Seconds as a device that runs unevenly would count them: of each spell, when it begins and how slow it is.

    The first begins at 0.
    """
    start = time.perf_counter()
    begins = [begin for begin, _ in spells]
    counted = [0.0]  # up to the beginning of each
    for (begin, slowness), end in zip(spells, begins[1:], strict=False):
        counted.append(counted[-1] + slowness * (end - begin))

    def clock() -> float:
        now = time.perf_counter() - start
        spell = bisect_right(begins, now) - 1
        return counted[spell] + spells[spell][1] * (now - begins[spell])

    return clock


def noise(chance: random.Random) -> list[tuple[float, float]]:
    """Slow and quick spells of random length, for longer than any bench takes."""
    spells: list[tuple[float, float]] = []
    begin = 0.0
    while begin < 24 * 3600:
        spells.append((begin, NOISE[len(spells) % 2]))
        begin += chance.expovariate(1 / SPELL_S)
    return spells


ARMS = ("fit", "corrected", "noisy")


@dataclass
class Results:
    errors: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in ARMS})
    beyond: dict[str, list[bool]] = field(default_factory=lambda: {name: [] for name in ARMS})
    planning_ms: dict[str, list[float]] = field(default_factory=dict)
    own_spread: list[float] = field(default_factory=list)  # |second - first| / first, of two runs of one plan
    beyond_cap: list[bool] = field(default_factory=list)
    stopped: list[bool] = field(default_factory=list)
    kept: list[bool] = field(default_factory=list)  # whether a stopped one left the beginning of its clip
    used: list[float] = field(default_factory=list)  # of the cap
    on_the_house: list[float] = field(default_factory=list)  # compute beyond the cap, in caps

    def measures(self, calibration_s: float) -> list[Measure]:
        found = [Measure("calibration", "s", (calibration_s,))]
        for name, errors in self.errors.items():
            found.append(Measure(f"relative error: {name}", "", tuple(errors)))
            found.append(Measure(f"jobs beyond their bound: {name}", "", (_share(self.beyond[name]),)))
        at_most = dict(AT_MOST)
        if self.own_spread:
            spread = Measure("machine's own spread", "", tuple(self.own_spread))
            found.append(spread)
            if spread.percentiles[1] > QUIET:
                at_most["relative error: corrected"] = AT_MOST["relative error: noisy"]
        found += [Measure(f"planning: {name}", "ms", tuple(times)) for name, times in self.planning_ms.items()]
        if self.stopped:
            found.append(Measure("capped jobs beyond their cap", "", (_share(self.beyond_cap),)))
            found.append(Measure("capped jobs stopped", "", (_share(self.stopped),)))
            found.append(Measure("stopped jobs that left part of a clip", "", (_share(self.kept),)))
            found.append(Measure("capped jobs: compute over cap", "", tuple(self.used)))
            found.append(Measure("capped jobs: on the house", "", tuple(self.on_the_house)))
        return [replace(measure, at_most=at_most.get(measure.name)) for measure in found]


def held_out(chance: random.Random, entry: ModelEntry, settings: Settings) -> Plan:
    """A plan within what the model can do, with the default preset's levers; hardly any is in the calibration's
    grid."""
    side = range(entry.min_side, entry.max_side + 1, entry.grid)
    request = Request(
        PROMPT,
        model=entry.name,
        seconds=round(chance.uniform(0.5, entry.max_seconds / 2), 2),
        size=f"{chance.choice(side)}x{chance.choice(side)}",
        fps=chance.choice((entry.fps, entry.max_fps)),
        seed=chance.randrange(1000),
    )
    plan = resolve_plan(request, config_dir(), settings).plan
    return replace(plan, steps=chance.randint(1, 10))


def foresee_and_run(
    engine: Engine, entry: ModelEntry, plan: Plan, models: dict[str, CostModel], file: Path, results: Results
) -> ComputeReceipt:
    """All but the model named fit learn from the receipt."""
    estimates = {name: model.estimate(plan, entry) for name, model in models.items()}
    receipt = _run(engine, plan, file, None)
    took_s = receipt.compute_seconds
    for name, estimate in estimates.items():
        results.errors[name].append(abs(estimate.compute_s - took_s) / took_s)
        results.beyond[name].append(took_s > estimate.bound_s)
    for name, model in models.items():
        if name != "fit":
            model.observe(plan, entry, receipt)
    return receipt


def run_capped(
    engine: Engine, entry: ModelEntry, plan: Plan, model: CostModel, max_s: float, file: Path, results: Results
) -> None:
    try:
        receipt = _run(engine, plan, file, model.compute_cap(plan, entry, max_s))
    except ComputeCapExceeded as error:
        assert error.spent is not None
        receipt = error.spent
        results.stopped.append(True)
        results.kept.append(error.kept is not None)
    else:
        results.stopped.append(False)
    # The meter counts no more than the cap; what came after that is wasted.
    results.beyond_cap.append(receipt.compute_seconds + receipt.wasted_s - receipt.closing_s > max_s)
    results.used.append(receipt.compute_seconds / max_s)
    results.on_the_house.append(receipt.wasted_s / max_s)


def time_planning(planner: Planner, results: Results) -> None:
    requests = {
        "the default request": Request(PROMPT, seed=1),
        "8 s at 16 fps": Request(PROMPT, preset="quality", seconds=8.0, fps=16, seed=1),
    }
    for name, request in requests.items():
        start = time.perf_counter()
        planner.quote(request)
        results.planning_ms.setdefault(name, []).append(1e3 * (time.perf_counter() - start))


def measure(engine: Engine, entry: ModelEntry, settings: Settings, jobs: int, seed: int) -> list[Measure]:
    chance = random.Random(seed)
    results = Results()
    device = device_label(engine.family.device)
    data = settings.data_dir
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clip.mp4"
        plan = held_out(chance, entry, settings)
        start = time.perf_counter()
        calibration = calibrate(engine, entry, plan)
        calibration_s = time.perf_counter() - start
        models = {}
        for name in ARMS:
            calibration.save(calibration_path(data / name, device, entry.name, plan))
            models[name] = CostModel(data / name, device)
        quiet, noisy = {name: models[name] for name in ARMS[:2]}, {"noisy": models["noisy"]}
        noisy_engine = Engine(engine.family, uneven_clock(noise(chance)))
        planner = Planner(config_dir(), settings.model_copy(update={"data_dir": data / "corrected"}), device)
        for number in range(jobs):
            plan = held_out(chance, entry, settings)
            receipt = foresee_and_run(engine, entry, plan, quiet, file, results)
            foresee_and_run(noisy_engine, entry, plan, noisy, file, results)
            time_planning(planner, results)
            if number % 10 == 4:  # not the first, whose prompt was new to the engine
                first_s, second_s = receipt.compute_seconds, _run(engine, plan, file, None).compute_seconds
                results.own_spread.append(abs(second_s - first_s) / first_s)
            if number % 4 == 0:
                took_s = receipt.compute_seconds
                slowing = Engine(engine.family, uneven_clock([(0.0, 1.0), (took_s / 2, SUDDEN)]))
                run_capped(slowing, entry, plan, quiet["corrected"], chance.uniform(0.5, 2.5) * took_s, file, results)
    return results.measures(calibration_s)


def _run(engine: Engine, plan: Plan, file: Path, cap: ComputeCap | None) -> ComputeReceipt:
    *_, done = engine.run(plan, file, None, cap)
    assert isinstance(done, Done)
    return done.receipt


def _share(answers: Sequence[bool]) -> float:
    return sum(answers) / len(answers) if answers else 0.0


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.pricing", description="Quotes against what jobs took.")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=Path("bench/results/pricing-cpu.json"))
    arguments = parser.parse_args(words)
    machine = describe(arguments.device)  # before anything of ours is part of its load
    settings = load_settings(config_dir())
    entry = load_model(config_dir(), settings.model)
    loading = resolve_plan(Request(PROMPT, model=entry.name), config_dir(), settings).plan.loading
    engine = open_engine(entry, arguments.device, loading)
    with tempfile.TemporaryDirectory() as data:
        kept_apart = settings.model_copy(update={"data_dir": Path(data)})
        measures = measure(engine, entry, kept_apart, arguments.jobs, arguments.seed)
    print_table(f"{entry.name} on {machine['cpu']}, {arguments.jobs} jobs", measures)
    about = {
        "bench": "pricing",
        "machine": machine,
        "model": {"name": entry.name, "hash": engine.family.model_hash},
        "jobs": arguments.jobs,
        "seed": arguments.seed,
    }
    write_json(arguments.output, about, measures)


if __name__ == "__main__":
    main()

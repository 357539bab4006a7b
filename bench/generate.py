"""How fast a clip is made on the CPU, and in how much memory: `python -m bench.generate`.

Every round measures everything once, so that whatever else the machine does falls on all alike. Ratios are
taken within a round. VIDEOSVC_CONFIG_DIR and VIDEOSVC_MODEL choose the model, as everywhere.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from bench.against_stock import JOB, MANY_STEPS, against_stock, many_steps_for_scale
from bench.processes import cold_generate_seconds, generate_peak_mib, import_seconds
from bench.report import print_table, write_json
from videosvc.bench.machine import describe
from videosvc.bench.measure import Measure, Samples
from videosvc.bench.stock import open_stock
from videosvc.config.models import load_model
from videosvc.config.request import Request, resolve_plan
from videosvc.config.settings import config_dir, load_settings
from videosvc.engine.events import Done
from videosvc.engine.generate import Engine
from videosvc.engine.loading import open_engine
from videosvc.families.anyflow_far import AnyFlowFAR

if TYPE_CHECKING:
    from diffusers import AnyFlowFARPipeline

PROMPT, SEED = JOB.prompt, JOB.seed
PRESETS = ("draft", "balanced", "quality")
MEMORY_SIZES = ("64x64", "128x128")

# What the median is held to. The seconds are meant for two cores.
AT_MOST = {
    "2 s clip, balanced: compute": 3.0,
    "2 s clip, balanced: cold process": 20.0,
    "import videosvc.cli.main": 1.0,
    "ours - stock: latents, largest": 1e-3,  # they have a standard deviation of about 1
    "peak memory 64x64: 8 s / 2 s": 1.05,
    "peak memory 128x128: 8 s / 2 s": 1.05,
}


def warm_generate(engine: Engine, preset: str, folder: Path, samples: Samples) -> None:
    """A 2 s clip on a loaded model: seconds of the receipt, and those that the caller waits."""
    configs = config_dir()
    request = Request(PROMPT, preset=preset, seconds=2.0, seed=SEED)
    plan = resolve_plan(request, configs, load_settings(configs)).plan
    start = time.perf_counter()
    *_, done = engine.run(plan, folder / "warm.mp4")
    wall = time.perf_counter() - start
    assert isinstance(done, Done)
    name = f"2 s clip, {preset}"
    samples[f"{name}: wall", "s"].append(wall)
    samples[f"{name}: compute", "s"].append(done.receipt.compute_seconds)
    for stage, seconds in done.receipt.by_stage.items():
        samples[f"{name}: {stage}", "s"].append(seconds)


def processes(folder: Path, samples: Samples) -> None:
    """Cold starts: a clip with the default preset, and the command line alone."""
    options = ("--preset", "balanced", "--seconds", "2", "--seed", str(SEED))
    seconds = cold_generate_seconds(PROMPT, folder / "cold.mp4", *options)
    samples["2 s clip, balanced: cold process", "s"].append(seconds)
    samples["import videosvc.cli.main", "s"].append(import_seconds("videosvc.cli.main"))


def peak_memory(folder: Path, size: str, samples: Samples) -> None:
    """A long clip against a short one, each in a process of its own."""
    options = ("--preset", "balanced", "--size", size, "--seed", str(SEED))
    peaks = {s: generate_peak_mib(PROMPT, folder / "peak.mp4", "--seconds", s, *options) for s in ("2", "8")}
    for seconds, mib in peaks.items():
        samples[f"peak memory {size}: {seconds} s", "MiB"].append(mib)
    samples[f"peak memory {size}: 8 s / 2 s", "x"].append(peaks["8"] / peaks["2"])


def measure(engine: Engine, pipeline: AnyFlowFARPipeline, rounds: int, folder: Path) -> list[Measure]:
    family = cast(AnyFlowFAR, engine.family)  # whose weights the stock pipeline can run
    samples: Samples = defaultdict(list)
    for turn in range(-1, rounds):
        kept: Samples = samples if turn >= 0 else defaultdict(list)  # the first turn only warms up
        for preset in PRESETS:
            warm_generate(engine, preset, folder, kept)
        against_stock(family, pipeline, turn, kept)
        if turn >= 0:
            processes(folder, kept)
            for size in MEMORY_SIZES:
                peak_memory(folder, size, kept)
    many_steps_for_scale(pipeline, MANY_STEPS, samples)
    return [Measure(name, unit, tuple(s), AT_MOST.get(name)) for (name, unit), s in samples.items()]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.generate", description="The bench of one clip.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("bench/results/generate-cpu.json"))
    arguments = parser.parse_args(words)
    machine = describe("cpu")  # before anything of ours is part of its load
    configs = config_dir()
    entry = load_model(configs, load_settings(configs).model)
    engine = open_engine(entry, "cpu")
    with tempfile.TemporaryDirectory() as folder:
        measures = measure(engine, open_stock(entry.folder(), engine.family.device), arguments.rounds, Path(folder))
    print_table(f"{entry.name} on {machine['cpu']}, {machine['threads']} threads", measures)
    about = {
        "bench": "generate",
        "machine": machine,
        "model": {"name": entry.name, "hash": engine.family.model_hash},
        "prompt": PROMPT,
        "seed": SEED,
        "rounds": arguments.rounds,
    }
    write_json(arguments.output, about, measures)


if __name__ == "__main__":
    main()

"""What each lever alone saves and what it costs in quality: `python -m bench.levers`. One on top of the other, against
stock diffusers, it is `videosvc bench`.

A round is one scene that the model was never trained on, with one seed, made once with every set of levers, in an order
that turns from round to round. Ratios and distances are to the native clip of the same round. The probe reads every
clip, and its readings are compared clip by clip: what differs between two ways says more than their shares do.
VIDEOSVC_CONFIG_DIR and VIDEOSVC_MODEL choose the model.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from bench.paired import Paired
from bench.report import print_table, write_json
from training.toyworld.evaluate import ATTRIBUTES, SEED, held_out_scenes
from training.toyworld.probe import read
from training.toyworld.world import Scene
from videosvc.bench.clips import Made, apart
from videosvc.bench.engines import Engines
from videosvc.bench.machine import describe
from videosvc.bench.measure import Measure, Samples
from videosvc.bench.memory import cache_bytes
from videosvc.bench.products import largest_product, product_rates
from videosvc.bench.rounds import rounds
from videosvc.bench.rows import Rung
from videosvc.config.models import load_model
from videosvc.config.request import Request, resolve_plan
from videosvc.config.settings import config_dir, load_settings
from videosvc.engine.plan import Plan

NATIVE, ALL_FOUR = "native", "all four"
SECONDS = 2.0
# Each lever alone, then together. Not drafts, which take other steps: they have a bench of their own.
LEVER_SETS: Mapping[str, Mapping[str, Any]] = {
    NATIVE: {},
    "int8 weights": {"weights": "int8"},
    "fp8 weights": {"weights": "fp8"},
    "int8 cache": {"frame_cache": "int8"},
    "int4 cache": {"frame_cache": "int4"},
    "all levers": {"weights": "int8", "frame_cache": "int8", "compile": True, "decode": "stream"},
}
POINTS_LOST = {name: 2.0 if "int4" in name else 1.0 for name in LEVER_SETS if name != NATIVE}  # at most


def compare(made: Mapping[str, Made], samples: Samples) -> None:
    """Takes in one round."""
    native = made[NATIVE]
    for name, clip in made.items():
        assert clip.denoise_s is not None and native.denoise_s is not None
        samples[f"{name}: compute", "s"].append(clip.compute_s)
        samples[f"{name}: denoise", "s"].append(clip.denoise_s)
        if name != NATIVE:
            samples[f"{name} / native: compute", "x"].append(clip.compute_s / native.compute_s)
            samples[f"{name} / native: denoise", "x"].append(clip.denoise_s / native.denoise_s)
            samples[f"{name} - native: latents, rms", "x"].append(apart(clip.latents, native.latents))


class Scores:
    """What the probe read, by name and attribute: for every clip, whether it was right."""

    def __init__(self, names: Sequence[str]) -> None:
        self._right: dict[str, dict[str, list[bool]]] = {name: {what: [] for what in ATTRIBUTES} for name in names}

    def add(self, frames: Mapping[str, Tensor], scene: Scene) -> None:
        """`frames`: a clip each of `scene`, (T, H, W, 3) uint8."""
        for name, clip in frames.items():
            for attribute, agrees in read(clip.permute(0, 3, 1, 2)).agrees(scene).items():
                self._right[name][attribute].append(agrees)

    def extend(self, others: Scores) -> None:
        """Takes in what was read of other clips, made in the same ways."""
        for name, by_attribute in self._right.items():
            for attribute, right in by_attribute.items():
                right += others._right[name][attribute]

    def shares(self) -> dict[str, dict[str, float]]:
        """In [0, 1]."""
        return {
            name: {attribute: round(sum(right) / len(right), 4) for attribute, right in by_attribute.items()}
            for name, by_attribute in self._right.items()
        }

    def paired(self, attribute: str = ALL_FOUR) -> dict[str, Paired]:
        """Each set of levers against none, clip by clip."""
        native = self._right[NATIVE][attribute]
        return {name: Paired.of(native, by[attribute]) for name, by in self._right.items() if name != NATIVE}

    def lost(self) -> list[Measure]:
        """Percentage points of the native score that each set of levers loses; clips right in all count."""
        return [
            Measure(
                f"{name}: probe, {attribute} lost",
                "points",
                (paired.points,),
                POINTS_LOST[name] if attribute == ALL_FOUR else None,
            )
            for attribute in ATTRIBUTES
            for name, paired in self.paired(attribute).items()
        ]


@dataclass(frozen=True, slots=True)
class Task:
    """What one process makes."""

    size: int
    steps: int
    device: str
    sets: Mapping[str, Mapping[str, Any]]  # of levers, by name
    scenes: tuple[tuple[Scene, str], ...]  # a round each, with its prompt
    first: int = 0  # round's number
    threads: int | None = None  # of its own; None: as many as torch takes


@dataclass(slots=True)
class Found:
    """What one process measured."""

    scores: Scores
    model_hash: str
    refused: dict[str, str]  # sets of levers, and why they cannot be here
    samples: Samples = field(default_factory=lambda: defaultdict(list))


def run(task: Task) -> Found:
    """Every round of `task`. Raises what loading the model raises."""
    if task.threads is not None:
        torch.set_num_threads(task.threads)
    settings = load_settings(config_dir())
    entry = load_model(config_dir(), settings.model)
    engines = Engines(entry, task.device, settings.data_dir / "quantized")
    base = base_plan(entry.name, task.size, task.steps)
    native = engines.plain.family
    product = largest_product(entry, native.spec, base)
    with TemporaryDirectory() as name:
        folder = Path(name)
        prompts = [prompt for _, prompt in task.scenes]
        plans = {name: replace(base, prompt=prompts[0], **levers) for name, levers in task.sets.items()}
        refused = {name: line for name, plan in plans.items() if (line := engines.refusal(plan, folder))}
        plans = {name: plan for name, plan in plans.items() if name not in refused}
        found = Found(Scores(list(plans)), native.model_hash, refused)
        makers = {name: partial(engines.make, Rung(name, plan), folder=folder) for name, plan in plans.items()}
        list(rounds(makers, prompts[:1], SEED - 1))  # only warms up
        all_made = rounds(makers, prompts, SEED + task.first)
        for (scene, _), made in zip(task.scenes, all_made, strict=True):
            compare(made, found.samples)
            found.scores.add({name: clip.frames for name, clip in made.items()}, scene)
            for way, rate in product_rates(native.device, product).items():
                found.samples[f"{way}, {'x'.join(map(str, product))}", "Gop/s"].append(rate)
    for name, plan in plans.items():
        held = cache_bytes(engines.of(plan).family, plan)
        if held is not None:
            found.samples[f"{name}: cache", "bytes"] = [held]
    return found


def base_plan(name: str, size: int, steps: int) -> Plan:
    """No lever pulled; the prompt and the seed are the rounds'."""
    configs = config_dir()
    request = Request("a clip", None, name, None, SECONDS, f"{size}x{size}", seed=SEED)
    plan = resolve_plan(request, configs, load_settings(configs)).plan
    plan = replace(plan, weights="native", frame_cache="native", decode="full", compile=False)
    return replace(plan, steps=steps, sampler="flow_map", draft_threshold=None, later_steps=None)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.levers", description="The bench of the levers.")
    parser.add_argument("--rounds", type=int, default=400, help="scenes, each with a seed of its own")
    parser.add_argument("--size", type=int, default=64, help="width and height in pixels")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=1, help="that share the rounds, and the cores")
    parser.add_argument("--output", type=Path, default=Path("bench/results/lever-quality-cpu.json"))
    arguments = parser.parse_args(words)
    machine = describe(arguments.device)  # before anything of ours is part of its load
    name = load_settings(config_dir()).model
    scenes = tuple(held_out_scenes(arguments.rounds, SEED))
    task = Task(arguments.size, arguments.steps, arguments.device, LEVER_SETS, scenes)
    found = shared(task, arguments.processes)
    measures = [Measure(name, unit, tuple(taken)) for (name, unit), taken in found.samples.items()]
    measures += found.scores.lost()
    title = f"{name} on {machine['cpu']}, {machine['threads']} threads in {arguments.processes} processes"
    print_table(title, measures)
    print_paired(found)
    about = {
        "bench": "lever quality",
        "machine": machine,
        "processes": arguments.processes,
        "model": {"name": name, "hash": found.model_hash},
        "size": arguments.size,
        "steps": arguments.steps,
        "seed": SEED,  # of the scenes; round n starts from seed SEED + n
        "rounds": arguments.rounds,
        "levers": LEVER_SETS,
        "refused": found.refused,
        "probe": found.scores.shares(),
        "paired": {name: paired.as_dict() for name, paired in found.scores.paired().items()},
    }
    write_json(arguments.output, about, measures)


def shared(task: Task, processes: int) -> Found:
    """What `task` comes to, its rounds dealt out to so many processes that run side by side.

    Every one has its share of the cores to itself, and clips this small gain little from a second: twice as many are
    made in the same time. Ratios are within a round, and so within a process.
    """
    if processes == 1:
        return run(task)
    threads = max(1, (os.cpu_count() or 1) // processes)
    each = -(-len(task.scenes) // processes)
    tasks = [
        replace(task, scenes=task.scenes[first : first + each], first=first, threads=threads)
        for first in range(0, len(task.scenes), each)
    ]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        found, *others = pool.map(run, tasks)
    for other in others:
        if other.refused != found.refused:
            raise RuntimeError(f"levers refused in one process only: {found.refused}, {other.refused}")
        found.scores.extend(other.scores)
        for key, taken in other.samples.items():
            found.samples[key] += taken
    return found


def print_paired(found: Found) -> None:
    table = Table("against native, clip by clip", title="clips that the probe reads right in all four")
    for heading in ("share", "lost", "gained", "points lost", "95 %", "at most"):
        table.add_column(heading, justify="right")
    shares = found.scores.shares()
    table.add_row(NATIVE, f"{shares[NATIVE][ALL_FOUR]:.1%}")
    for name, paired in found.scores.paired().items():
        low, high = paired.interval
        figures = f"{paired.lost}", f"{paired.gained}", f"{paired.points:.1f}", f"{low:.1f} to {high:.1f}"
        table.add_row(name, f"{shares[name][ALL_FOUR]:.1%}", *figures, f"{POINTS_LOST[name]:g}")
    Console().print(table)
    for name, line in found.refused.items():
        print(f"{name}: cannot be here: {line}")


if __name__ == "__main__":
    main()

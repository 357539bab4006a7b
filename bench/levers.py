"""What each lever alone saves and what it costs in quality: `python -m bench.levers`. One on top of the other, against
stock diffusers, it is `videosvc bench`.

A round is one scene that the model was never trained on, with one seed, made once with every set of levers, in an order
that turns from round to round. Ratios and distances are to the native clip of the same round. The probe reads every
clip; its score needs many rounds (200 tell two points apart). VIDEOSVC_CONFIG_DIR and VIDEOSVC_MODEL choose the model.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

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

NATIVE = "native"
SECONDS = 2.0
# Each lever alone, then together.
LEVER_SETS: Mapping[str, Mapping[str, Any]] = {
    NATIVE: {},
    "int8 weights": {"weights": "int8"},
    "int8 cache": {"frame_cache": "int8"},
    "int4 cache": {"frame_cache": "int4"},
    "int8 weights, int8 cache": {"weights": "int8", "frame_cache": "int8"},
    "int8 weights, int4 cache": {"weights": "int8", "frame_cache": "int4"},
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
    """What the probe read, by name and attribute: how many clips were right."""

    def __init__(self, names: Sequence[str]) -> None:
        self.clips = 0
        self._right = {name: dict.fromkeys(ATTRIBUTES, 0) for name in names}

    def add(self, frames: Mapping[str, Tensor], scene: Scene) -> None:
        """`frames`: a clip each of `scene`, (T, H, W, 3) uint8."""
        self.clips += 1
        for name, clip in frames.items():
            for attribute, agrees in read(clip.permute(0, 3, 1, 2)).agrees(scene).items():
                self._right[name][attribute] += agrees

    def shares(self) -> dict[str, dict[str, float]]:
        """In [0, 1]."""
        return {
            name: {attribute: round(right / self.clips, 4) for attribute, right in by_attribute.items()}
            for name, by_attribute in self._right.items()
        }

    def lost(self) -> list[Measure]:
        """Percentage points of the native score that each set of levers loses; clips right in all count."""
        shares = self.shares()
        return [
            Measure(
                f"{name}: probe, {attribute} lost",
                "points",
                (100 * (shares[NATIVE][attribute] - shares[name][attribute]),),
                POINTS_LOST[name] if attribute == "all four" else None,
            )
            for name in shares
            if name != NATIVE
            for attribute in ATTRIBUTES
        ]


def base_plan(name: str, size: int, steps: int) -> Plan:
    """No lever pulled; the prompt and the seed are the rounds'."""
    configs = config_dir()
    request = Request("a clip", None, name, None, SECONDS, f"{size}x{size}", seed=SEED)
    plan = resolve_plan(request, configs, load_settings(configs)).plan
    plan = replace(plan, weights="native", frame_cache="native", compile=False)
    return replace(plan, steps=steps, sampler="flow_map", draft_threshold=None)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.levers", description="The bench of the levers.")
    parser.add_argument("--rounds", type=int, default=200, help="scenes, each with a seed of its own")
    parser.add_argument("--size", type=int, default=64, help="width and height in pixels")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=Path("bench/results/lever-quality-cpu.json"))
    arguments = parser.parse_args(words)
    machine = describe(arguments.device)  # before anything of ours is part of its load
    settings = load_settings(config_dir())
    entry = load_model(config_dir(), settings.model)
    engines = Engines(entry, arguments.device, settings.data_dir / "quantized")
    base = base_plan(entry.name, arguments.size, arguments.steps)
    plans = {name: replace(base, **levers) for name, levers in LEVER_SETS.items()}
    native = engines.plain.family
    product = largest_product(entry, native.spec, base)
    samples: Samples = defaultdict(list)
    scores = Scores(list(LEVER_SETS))
    scenes, prompts = zip(*held_out_scenes(arguments.rounds, SEED), strict=True)
    with TemporaryDirectory() as folder:
        makers = {name: partial(engines.make, Rung(name, plan), folder=Path(folder)) for name, plan in plans.items()}
        list(rounds(makers, prompts[:1], SEED - 1))  # only warms up
        for scene, made in zip(scenes, rounds(makers, prompts, SEED), strict=True):
            compare(made, samples)
            scores.add({name: clip.frames for name, clip in made.items()}, scene)
            for name, rate in product_rates(native.device, product).items():
                samples[f"{name}, {'x'.join(map(str, product))}", "Gop/s"].append(rate)
    for name, plan in plans.items():
        held = cache_bytes(engines.of(plan).family, plan)
        if held is not None:
            samples[f"{name}: cache", "bytes"].append(held)
    measures = [Measure(name, unit, tuple(taken)) for (name, unit), taken in samples.items()] + scores.lost()
    print_table(f"{entry.name} on {machine['cpu']}, {machine['threads']} threads", measures)
    about = {
        "bench": "lever quality",
        "machine": machine,
        "model": {"name": entry.name, "hash": native.model_hash},
        "size": arguments.size,
        "steps": arguments.steps,
        "seed": SEED,  # of the scenes; round n starts from seed SEED + n
        "rounds": arguments.rounds,
        "probe": scores.shares(),
    }
    write_json(arguments.output, about, measures)


if __name__ == "__main__":
    main()

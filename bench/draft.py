"""Where drafting pays: `python -m bench.draft`.

Every clip is a scene that the model was never trained on, made from one seed with plain steps and with drafts of
several thresholds: how many drafts are accepted, opening chunks (which see nothing before them) apart from following
ones, what a chunk takes, and what the probe reads. Forwards are counted, not seconds, so a busy machine does no harm.
VIDEOSVC_CONFIG_DIR and VIDEOSVC_MODEL choose the model.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from bench.levers import Scores
from bench.report import write_json
from training.toyworld.evaluate import FRAMES, SEED, held_out_scenes
from videosvc.bench.machine import describe
from videosvc.bench.measure import Measure, Samples
from videosvc.config.models import load_model
from videosvc.config.settings import config_dir, load_settings
from videosvc.engine.loading import pick_device
from videosvc.families.anyflow_far import AnyFlowFAR
from videosvc_samplers import Denoiser, SamplerState, draft, draft_sigmas, flow_map, flow_sigmas

PLAIN = (1, 2, 4)
THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.25)
CHUNKS = ("opening", "following")

Run = Callable[[Denoiser, SamplerState], Iterator[SamplerState]]


@dataclass
class Drafted:
    """One clip, and how each of its chunks came about."""

    frames: list[Tensor] = field(default_factory=list)  # (T, H, W, 3) uint8 of each chunk
    forwards: list[int] = field(default_factory=list)
    accepted: list[bool] = field(default_factory=list)
    apart: list[float] = field(default_factory=list)  # the first two velocities, relative to the first


def ways(steps: int, thresholds: Sequence[float], shift: float) -> dict[str, Run]:
    """By name: plain steps, then drafts that are refined along `steps`."""
    runs: dict[str, Run] = {}
    for count in PLAIN:
        runs[f"{count} step{'s' if count > 1 else ''}"] = partial(flow_map, sigmas=flow_sigmas(count, shift))
    for threshold in thresholds:
        runs[f"draft {threshold:g}"] = partial(draft, sigmas=draft_sigmas(steps, shift), threshold=threshold)
    return runs


@torch.inference_mode()
def make(family: AnyFlowFAR, run: Run, prompt: str, seed: int, size: int) -> Drafted:
    """Two seconds, chunk by chunk as the engine does it; no file is written."""
    spec, made = family.spec, Drafted()
    clip = family.open_clip(size, size, family.encode_text(prompt, None), 1.0)
    generator = torch.Generator().manual_seed(seed)
    for latents in spec.chunks(FRAMES):
        noise = torch.randn(1, spec.channels, latents, size // spec.spatial, size // spec.spatial, generator=generator)
        velocities: list[Tensor] = []

        def denoise(x: Tensor, t: float, r: float, seen: list[Tensor] = velocities) -> Tensor:
            seen.append(clip.denoise(x, t, r))
            return seen[-1]

        *_, state = run(denoise, SamplerState.start(noise.to(family.device)))
        clip.append(state.latents)
        made.frames.append(clip.decode(state.latents))
        made.forwards.append(len(velocities))
        made.accepted.append(state.done)
        first, second = velocities[0], velocities[min(1, len(velocities) - 1)]
        made.apart.append(float(torch.linalg.vector_norm(second - first) / torch.linalg.vector_norm(first)))
    return made


def measure(made: dict[str, Drafted], samples: Samples) -> None:
    for name, clip in made.items():
        samples[f"{name}: forwards a chunk", ""].append(sum(clip.forwards) / len(clip.forwards))
        if name.startswith("draft"):
            for kind, some in zip(CHUNKS, (slice(1), slice(1, None)), strict=True):
                samples[f"{name}: disagreement, {kind}", "x"] += clip.apart[some]
                samples[f"{name}: accepted, {kind}", "x"] += map(float, clip.accepted[some])


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.draft", description="The bench of draft and verify.")
    parser.add_argument("--clips", type=int, default=100, help="scenes, each with a seed of its own")
    parser.add_argument("--size", type=int, default=64, help="width and height in pixels")
    parser.add_argument("--steps", type=int, default=4, help="of the schedule that refused drafts are refined along")
    parser.add_argument("--thresholds", type=float, nargs="+", default=list(THRESHOLDS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=Path("bench/results/draft-cpu.json"))
    arguments = parser.parse_args(words)
    machine = describe(arguments.device)  # before anything of ours is part of its load
    entry = load_model(config_dir(), load_settings(config_dir()).model)
    device = pick_device(arguments.device)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    family = AnyFlowFAR(entry.name, entry.folder(), entry.window_chunks, device, dtype)
    runs = ways(arguments.steps, arguments.thresholds, family.shift)
    samples: Samples = defaultdict(list)
    scores = Scores(list(runs))
    for number, (scene, prompt) in enumerate(held_out_scenes(arguments.clips, SEED)):
        made = {name: make(family, run, prompt, SEED + number, arguments.size) for name, run in runs.items()}
        measure(made, samples)
        scores.add({name: torch.cat(clip.frames)[:FRAMES] for name, clip in made.items()}, scene)
    means = {name: sum(values) / len(values) for (name, unit), values in samples.items()}
    measures = [Measure(name, unit, tuple(values)) for (name, unit), values in samples.items()]
    about = {
        "bench": "draft",
        "machine": machine,
        "model": {"name": entry.name, "hash": family.model_hash},
        "size": arguments.size,
        "steps": arguments.steps,
        "seed": SEED,  # of the scenes; clip n starts from seed SEED + n
        "clips": arguments.clips,
        "means": {name: round(mean, 4) for name, mean in means.items()},
        "probe": scores.shares(),
    }
    print_means(means, scores.shares())
    write_json(arguments.output, about, measures)


def print_means(means: dict[str, float], shares: dict[str, dict[str, float]]) -> None:
    """A line a way: counts and shares have no percentiles worth reading."""
    columns = ["forwards a chunk", *(f"{what}, {kind}" for what in ("accepted", "disagreement") for kind in CHUNKS)]
    table = Table("way", *columns, "probe, all four")
    for name, share in shares.items():
        figures = (means.get(f"{name}: {column}") for column in columns)
        table.add_row(name, *("" if one is None else f"{one:.3g}" for one in figures), f"{share['all four']:.3g}")
    Console().print(table)


if __name__ == "__main__":
    main()

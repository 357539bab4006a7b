"""What each lever saves and what it costs in quality: `python -m bench.levers`.

A round is one scene that the model was never trained on, with one seed, made once with every set of levers, in an order
that turns from round to round. Ratios and distances are to the native clip of the same round. The probe reads every
clip; its score needs many rounds (200 tell two points apart). VIDEOSVC_CONFIG_DIR and VIDEOSVC_MODEL choose the model.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.machine import describe
from bench.report import Measure, Samples, print_table, write_json
from training.toyworld.evaluate import ATTRIBUTES, FRAMES, SEED, held_out_scenes
from training.toyworld.probe import read
from training.toyworld.world import Scene
from videosvc.config.models import ModelEntry, load_model
from videosvc.config.settings import config_dir, load_settings
from videosvc.engine.loading import pick_device
from videosvc.families.anyflow_far import AnyFlowFAR
from videosvc.families.far_clip import FarClip
from videosvc_kernels import Int8Linear
from videosvc_kernels.int8_linear import int8_product, padded_int8_product
from videosvc_samplers import SamplerState, flow_map, flow_sigmas

NATIVE = "native"
# Weights and frame cache: each lever alone, then together.
LEVER_SETS: Mapping[str, tuple[str, str]] = {
    NATIVE: ("native", "native"),
    "int8 weights": ("int8", "native"),
    "int8 cache": ("native", "int8"),
    "int4 cache": ("native", "int4"),
    "int8 weights, int8 cache": ("int8", "int8"),
    "int8 weights, int4 cache": ("int8", "int4"),
}
POINTS_LOST = {name: 2.0 if "int4" in name else 1.0 for name in LEVER_SETS if name != NATIVE}  # at most
REPEATS = 20  # of one product


@dataclass
class Made:
    """One clip, and what it took."""

    latents: list[Tensor] = field(default_factory=list)  # of each chunk
    frames: list[Tensor] = field(default_factory=list)  # (T, H, W, 3) uint8 of each chunk
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))  # by stage
    cache_bytes: int = 0

    @contextmanager
    def timed(self, stage: str, device: torch.device) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self.seconds[stage] += time.perf_counter() - start


@torch.inference_mode()
def make(family: AnyFlowFAR, frame_cache: str, prompt: str, seed: int, size: int, steps: int) -> Made:
    """Two seconds, chunk by chunk as the engine does it; no file is written."""
    spec, device, made = family.spec, family.device, Made()
    with made.timed("text", device):
        clip = family.open_clip(size, size, family.encode_text(prompt, None), 1.0, frame_cache)
    assert isinstance(clip, FarClip)
    generator = torch.Generator().manual_seed(seed)
    for latents in spec.chunks(FRAMES):
        shape = (1, spec.channels, latents, size // spec.spatial, size // spec.spatial)
        noise = torch.randn(shape, generator=generator).to(device)
        with made.timed("denoise", device):
            *_, state = flow_map(clip.denoise, SamplerState.start(noise), flow_sigmas(steps, family.shift))
            clip.append(state.latents)
        with made.timed("decode", device):
            made.frames.append(clip.decode(state.latents))
        made.latents.append(state.latents.cpu())
    made.cache_bytes = clip.cache_bytes
    return made


def one_round(
    families: Mapping[str, AnyFlowFAR], turn: int, prompt: str, size: int, steps: int, samples: Samples
) -> dict[str, Made]:
    """One clip with each set of levers. `families`: by the lever `weights`."""
    names = list(LEVER_SETS)
    first = turn % len(names)
    made = {}
    for name in names[first:] + names[:first]:
        weights, frame_cache = LEVER_SETS[name]
        made[name] = make(families[weights], frame_cache, prompt, SEED + turn, size, steps)
    native = made[NATIVE]
    there = torch.cat([part.flatten() for part in native.latents]).double()
    for name in names:
        clip = made[name]
        compute = sum(clip.seconds.values())
        samples[f"{name}: compute", "s"].append(compute)
        samples[f"{name}: denoise", "s"].append(clip.seconds["denoise"])
        samples[f"{name}: cache", "bytes"].append(clip.cache_bytes)
        if name != NATIVE:
            samples[f"{name} / native: compute", "x"].append(compute / sum(native.seconds.values()))
            samples[f"{name} / native: denoise", "x"].append(clip.seconds["denoise"] / native.seconds["denoise"])
            here = torch.cat([part.flatten() for part in clip.latents]).double()
            off = torch.linalg.vector_norm(here - there) / torch.linalg.vector_norm(there)
            samples[f"{name} - native: latents, rms", "x"].append(off.item())
    return made


@torch.inference_mode()
def products(family: AnyFlowFAR, size: int, samples: Samples) -> None:
    """The product that a step makes most of, in every way there is: what the step is held against."""
    config = family._forward.model.config
    tokens = family.spec.chunk * (size // family.spec.grid) ** 2
    channels, hidden = config.num_attention_heads * config.attention_head_dim, config.ffn_dim
    device, operations = family.device, 2 * tokens * channels * hidden
    linear = nn.Linear(channels, hidden).to(device)
    low, half = Int8Linear.of(linear), nn.Linear(channels, hidden).to(device, torch.bfloat16)
    x = torch.randn(tokens, channels, device=device)
    codes = torch.randint(-127, 128, (tokens, channels), dtype=torch.int8, device=device)
    product = int8_product if device.type == "cpu" else padded_int8_product
    ways: dict[str, Callable[[], Tensor]] = {
        "float32 product": lambda: F.linear(x, linear.weight),
        "bfloat16 product": lambda: F.linear(x.bfloat16(), half.weight),
        "int8 product": lambda: product(codes, low.codes),
        "float32 layer": lambda: linear(x),
        "int8 layer": lambda: low(x),
    }
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(REPEATS):
        for name, way in ways.items():
            with (timer := Made()).timed(name, device):
                way()
            seconds[name].append(timer.seconds[name])
    for name, taken in seconds.items():
        samples[f"{name}, {tokens}x{channels}x{hidden}", "Gop/s"].append(operations / median(taken) / 1e9)


class Scores:
    """What the probe read, by set of levers and attribute: how many clips were right."""

    def __init__(self, names: Sequence[str]) -> None:
        self.clips = 0
        self._right = {name: dict.fromkeys(ATTRIBUTES, 0) for name in names}

    def add(self, made: Mapping[str, Made], scene: Scene) -> None:
        self.clips += 1
        for name, clip in made.items():
            frames = torch.cat(clip.frames)[:FRAMES].permute(0, 3, 1, 2)
            for attribute, agrees in read(frames).agrees(scene).items():
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


def open_families(entry: ModelEntry, device: torch.device) -> dict[str, AnyFlowFAR]:
    """By the lever `weights`."""
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    arguments = (entry.name, entry.folder(), entry.window_chunks, device, dtype)
    return {weights: AnyFlowFAR(*arguments, weights) for weights in dict(LEVER_SETS.values())}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.levers", description="The bench of the levers.")
    parser.add_argument("--rounds", type=int, default=200, help="scenes, each with a seed of its own")
    parser.add_argument("--size", type=int, default=64, help="width and height in pixels")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=Path("bench/results/levers-cpu.json"))
    arguments = parser.parse_args(words)
    machine = describe(arguments.device)  # before anything of ours is part of its load
    configs = config_dir()
    entry = load_model(configs, load_settings(configs).model)
    families = open_families(entry, pick_device(arguments.device))
    samples: Samples = defaultdict(list)
    scores = Scores(list(LEVER_SETS))
    scenes = held_out_scenes(arguments.rounds, SEED)
    one_round(families, 0, scenes[0][1], arguments.size, arguments.steps, defaultdict(list))  # only warms up
    for turn, (scene, prompt) in enumerate(scenes):
        scores.add(one_round(families, turn, prompt, arguments.size, arguments.steps, samples), scene)
        products(families["native"], arguments.size, samples)
    measures = [Measure(name, unit, tuple(taken)) for (name, unit), taken in samples.items()] + scores.lost()
    print_table(f"{entry.name} on {machine['cpu']}, {machine['threads']} threads", measures)
    about = {
        "bench": "levers",
        "machine": machine,
        "model": {"name": entry.name, "hash": families["native"].model_hash},
        "size": arguments.size,
        "steps": arguments.steps,
        "seed": SEED,  # of the scenes; round n starts from seed SEED + n
        "rounds": arguments.rounds,
        "probe": scores.shares(),
    }
    write_json(arguments.output, about, measures)


if __name__ == "__main__":
    main()

"""Measures a model with the probe, per number of steps, on scenes and seeds it was never trained on.

`python -m training.toyworld.evaluate` prints the table and writes it into the bundled model's folder: `probe.json` and
the model card.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from training.toyworld import vocabulary as words
from training.toyworld.autoencoder import to_video
from training.toyworld.captions import caption, held_out
from training.toyworld.card import card
from training.toyworld.probe import read
from training.toyworld.world import Scene, render, sample_scene
from videosvc.families.anyflow_far import AnyFlowFAR
from videosvc.families.causal_autoencoder import CausalConvAutoencoder
from videosvc_samplers import SamplerState, flow_sigmas, get_sampler

BUNDLED = Path(__file__).parents[2] / "videosvc" / "bundled" / "toyworld"
FRAMES = 16  # two seconds
SEED = 20_000  # of the scenes; clip number n starts from seed SEED + n
ATTRIBUTES = ("background", "colour", "shape", "motion", "all four")


@dataclass(frozen=True, slots=True)
class Row:
    """Shares in [0, 1] of `clips` clips in which the probe read what the caption says."""

    what: str
    size: int
    seconds: int
    clips: int
    background: float
    colour: float
    shape: float
    motion: float
    all_four: float


def held_out_scenes(count: int, seed: int) -> list[tuple[Scene, str]]:
    """Scenes of one thing under a fixed camera, of combinations kept out of training, each with a caption."""
    rng = random.Random(seed)
    scenes: list[tuple[Scene, str]] = []
    while len(scenes) < count:
        scene = sample_scene(rng)
        if held_out(scene) and len(scene.things) == 1 and scene.camera == "fixed":
            scenes.append((scene, caption(scene, rng)))
    return scenes


@dataclass(frozen=True, slots=True)
class Way:
    """How the clips of a row are made. `steps` 0: rendered; -1: rendered, encoded and decoded."""

    what: str
    steps: int
    size: int = 64
    seconds: int = 2
    later_steps: int | None = None  # of chunks after the first; None: as many
    sampler: str = "flow_map"

    @property
    def frames(self) -> int:
        return self.seconds * words.FPS


def ways() -> list[Way]:
    """The table's rows, but for chance."""
    stepped = [
        Way(f"{steps} step{'s' if steps > 1 else ''}", steps, size) for size in (64, 96, 128) for steps in (1, 2, 4, 8)
    ]
    return [
        Way("rendered: the probe itself", 0),
        Way("rendered, encoded and decoded", -1),
        *stepped,
        Way("50 Euler steps", 50, sampler="euler"),
        Way("rendered: the probe itself", 0, seconds=8),
        Way("4 steps", 4, seconds=8),
        Way("4 steps, 1 after the first chunk", 4, later_steps=1),
        Way("4 steps, 2 after the first chunk", 4, seconds=8, later_steps=2),
        Way("4 steps, 1 after the first chunk", 4, seconds=8, later_steps=1),
    ]


@torch.inference_mode()
def sample(family: AnyFlowFAR, prompt: str, seed: int, way: Way) -> Tensor:
    """(T, 3, size, size) uint8: chunk by chunk as the engine does it, with noise of its own seeding and no file."""
    spec, size = family.spec, way.size
    clip = family.open_clip(size, size, family.encode_text(prompt, None), guidance_scale=1.0)
    generator = torch.Generator().manual_seed(seed)
    frames: list[Tensor] = []
    for latents in spec.chunks(way.frames):
        noise = torch.randn(1, spec.channels, latents, size // spec.spatial, size // spec.spatial, generator=generator)
        steps = way.later_steps if frames and way.later_steps else way.steps
        states = get_sampler(way.sampler)(clip.denoise, SamplerState.start(noise), flow_sigmas(steps, family.shift))
        state = list(states)[-1]
        clip.append(state.latents)
        frames.append(clip.decode(state.latents))
    return torch.cat(frames).permute(0, 3, 1, 2)


@dataclass(frozen=True, slots=True)
class Job:
    """Clips to make one way, for one process."""

    folder: Path
    scenes: tuple[tuple[int, Scene, str], ...]  # number, scene and caption
    way: Way


def count_right(job: Job) -> dict[str, int]:
    """For each attribute, the clips in which the probe read what the scene says."""
    torch.set_num_threads(1)
    clip_of = _maker(job)
    right = dict.fromkeys(ATTRIBUTES, 0)
    for number, scene, text in job.scenes:
        for name, agrees in read(clip_of(number, scene, text)).agrees(scene).items():
            right[name] += agrees
    return right


def _maker(job: Job) -> Callable[[int, Scene, str], Tensor]:
    way = job.way
    if way.steps == 0:
        return lambda number, scene, text: render(scene, way.size, way.size, way.frames)[0]
    if way.steps < 0:
        vae = CausalConvAutoencoder.from_pretrained(job.folder / "vae", torch_dtype=torch.float32).eval()
        return lambda number, scene, text: reconstructed(vae, render(scene, way.size, way.size, way.frames)[0])
    family = AnyFlowFAR("toyworld", job.folder, 1, torch.device("cpu"), torch.float32)
    return lambda number, scene, text: sample(family, text, SEED + number, way)


def score(job: Job, pool: ProcessPoolExecutor, processes: int) -> Row:
    parts = [replace(job, scenes=job.scenes[i::processes]) for i in range(processes)]
    counts = list(pool.map(count_right, parts))
    shares = {
        name.replace(" ", "_"): round(sum(count[name] for count in counts) / len(job.scenes), 4) for name in ATTRIBUTES
    }
    row = Row(job.way.what, job.way.size, job.way.seconds, len(job.scenes), **shares)
    print(row, flush=True)
    return row


def chance() -> Row:
    """What guessing gets: each attribute evenly."""
    shares = [1 / len(values) for values in (words.BACKGROUNDS, words.COLOURS, words.KINDS, words.MOTIONS)]
    background, colour, shape, motion = (round(share, 4) for share in shares)
    return Row("chance", 0, 0, 0, background, colour, shape, motion, round(math.prod(shares), 6))


@torch.inference_mode()
def reconstructed(vae: CausalConvAutoencoder, frames: Tensor) -> Tensor:
    video = vae.decode(vae.encode(to_video(frames[None])), return_dict=False)[0]
    return ((video[0].transpose(0, 1) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def evaluate(folder: Path, clips: int) -> list[Row]:
    numbered = tuple((number, *pair) for number, pair in enumerate(held_out_scenes(clips, SEED)))
    rows = [chance()]
    processes = os.cpu_count() or 1
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for way in ways():
            quick = way.size == 64 and way.steps != 50 and way.seconds == 2
            rows.append(score(Job(folder, numbered if quick else numbered[: clips // 2], way), pool, processes))
    return rows


def write_scores(folder: Path, clips: int) -> None:
    """Scores the model in `folder` and writes probe.json and the model card beside it."""
    table = [asdict(row) for row in evaluate(folder, clips)]
    model_hash = AnyFlowFAR("toyworld", folder, 1, torch.device("cpu"), torch.float32).model_hash
    measured = {"seed": SEED, "model_hash": model_hash, "rows": table}
    (folder / "probe.json").write_text(json.dumps(measured, indent=2) + "\n")
    (folder / "README.md").write_text(card(folder, table))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Scores the bundled model with the probe.")
    parser.add_argument("--model", type=Path, default=BUNDLED)
    parser.add_argument("--clips", type=int, default=200)
    arguments = parser.parse_args()
    if arguments.clips < 2:
        parser.error(f"--clips: {arguments.clips} must be at least 2")
    write_scores(arguments.model, arguments.clips)

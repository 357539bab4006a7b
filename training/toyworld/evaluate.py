"""Measures a model with the probe, per number of steps, on scenes and seeds it was never trained on.

`python -m training.toyworld.evaluate` prints the table and writes it into the bundled model's folder: `probe.json` and the
model card.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from training.toyworld import vocabulary as words
from training.toyworld.autoencoder import to_video
from training.toyworld.captions import caption, held_out
from training.toyworld.card import write_card
from training.toyworld.probe import read
from training.toyworld.recipe import BUNDLED
from training.toyworld.world import Scene, render, sample_scene
from videosvc.families.anyflow_far import AnyFlowFAR
from videosvc.families.causal_autoencoder import CausalConvAutoencoder
from videosvc_samplers import SamplerState, flow_sigmas, get_sampler

FRAMES = 16  # two seconds
ATTRIBUTES = ("background", "colour", "shape", "motion", "all four")


@dataclass(frozen=True, slots=True)
class Row:
    """Shares in [0, 1] of `clips` clips in which the probe read what the caption says."""

    what: str
    size: int
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


@torch.inference_mode()
def sample(family: AnyFlowFAR, prompt: str, seed: int, size: int, steps: int, sampler: str) -> Tensor:
    """(16, 3, size, size) uint8: what the engine would make, without a file."""
    spec = family.spec
    clip = family.open_clip(size, size, family.encode_text(prompt, None), guidance_scale=1.0)
    generator = torch.Generator().manual_seed(seed)
    frames = []
    for latents in spec.chunks(FRAMES):
        noise = torch.randn(1, spec.channels, latents, size // spec.spatial, size // spec.spatial, generator=generator)
        states = get_sampler(sampler)(clip.denoise, SamplerState.start(noise), flow_sigmas(steps))
        state = list(states)[-1]
        clip.append(state.latents)
        frames.append(clip.decode(state.latents))
    return torch.cat(frames).permute(0, 3, 1, 2)


def score(what: str, size: int, scenes: list[tuple[Scene, str]], clip_of: Callable[[int, Scene, str], Tensor]) -> Row:
    right = dict.fromkeys(ATTRIBUTES, 0)
    for index, (scene, text) in enumerate(scenes):
        for name, agrees in read(clip_of(index, scene, text)).agrees(scene).items():
            right[name] += agrees
    shares = {name.replace(" ", "_"): round(count / len(scenes), 4) for name, count in right.items()}
    row = Row(what, size, len(scenes), **shares)
    print(row, flush=True)
    return row


def chance() -> Row:
    """What guessing gets: each attribute evenly."""
    shares = [1 / len(values) for values in (words.BACKGROUNDS, words.COLOURS, words.KINDS, words.MOTIONS)]
    product = shares[0] * shares[1] * shares[2] * shares[3]
    return Row("chance", 0, 0, *(round(share, 4) for share in shares), round(product, 6))


@torch.inference_mode()
def reconstructed(vae: CausalConvAutoencoder, frames: Tensor) -> Tensor:
    video = vae.decode(vae.encode(to_video(frames[None])), return_dict=False)[0]
    return ((video[0].transpose(0, 1) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def evaluate(folder: Path, clips: int, seed: int) -> list[Row]:
    family = AnyFlowFAR("toyworld", folder, 1, torch.device("cpu"), torch.float32)
    vae = CausalConvAutoencoder.from_pretrained(folder / "vae", torch_dtype=torch.float32).eval()
    scenes = held_out_scenes(clips, seed)
    rows = [chance()]
    rows.append(score("rendered: the probe itself", 64, scenes, lambda i, scene, text: render(scene, 64, 64, FRAMES)[0]))
    rows.append(
        score("rendered, encoded and decoded", 64, scenes,
              lambda i, scene, text: reconstructed(vae, render(scene, 64, 64, FRAMES)[0]))
    )  # fmt: skip
    ladder = [(64, steps, "flow_map") for steps in (1, 2, 4, 8)] + [(64, 50, "euler")]
    ladder += [(size, steps, "flow_map") for size in (96, 128) for steps in (1, 4)]
    for size, steps, sampler in ladder:
        some = scenes if size == 64 and steps <= 8 else scenes[: clips // 2]
        what = f"{steps} step{'s' if steps > 1 else ''}, {sampler}"
        rows.append(
            score(what, size, some,
                  lambda i, scene, text: sample(family, text, seed + i, size, steps, sampler))  # noqa: B023
        )  # fmt: skip
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Scores the bundled model with the probe.")
    parser.add_argument("--model", type=Path, default=BUNDLED)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=20_000)
    arguments = parser.parse_args()
    rows = evaluate(arguments.model, arguments.clips, arguments.seed)
    table = [asdict(row) for row in rows]
    (arguments.model / "probe.json").write_text(json.dumps({"seed": arguments.seed, "rows": table}, indent=2) + "\n")
    write_card(arguments.model, table)

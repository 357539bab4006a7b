"""The data set the flow is trained on: clips of two chunks, encoded once, normalised, with their scenes."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from training.precision import mixed_precision
from training.toyworld.autoencoder import to_video
from training.toyworld.captions import held_out
from training.toyworld.clips import Order, draw
from training.toyworld.world import Scene, Thing, sample_scene
from videosvc.families.causal_autoencoder import CausalConvAutoencoder

CHUNK = 2  # latents a chunk: one second
FRAMES = 16  # two chunks
ENCODE_BATCH = 16


@dataclass(frozen=True, slots=True)
class Latents:
    """`values`: (N, C, 4, h, w) float16, normalised. `covered`: (N, 1, 4, h, w) bool, where a thing shows.

    `opening`: (N,) bool, whether the clip starts with its scene.
    """

    scenes: list[Scene]
    values: Tensor
    covered: Tensor
    opening: Tensor


def sample_latent_orders(count: int, size: int, rng: random.Random) -> list[Order]:
    """Scenes that are not held out; four in five from their beginning, the others from a later second."""
    orders: list[Order] = []
    while len(orders) < count:
        scene = sample_scene(rng)
        if not held_out(scene):
            start_s = 0.0 if rng.random() < 0.8 else float(rng.randint(1, 6))
            orders.append(Order(scene, size, FRAMES, start_s))
    return orders


def _spread(vae: CausalConvAutoencoder) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, (1, C, 1, 1, 1)."""
    mean, std = torch.tensor([vae.config.latents_mean, vae.config.latents_std], device=vae.device)
    return mean.view(1, -1, 1, 1, 1), std.view(1, -1, 1, 1, 1)


def normalise(vae: CausalConvAutoencoder, latents: Tensor) -> Tensor:
    mean, std = _spread(vae)
    return (latents - mean) / std


def denormalise(vae: CausalConvAutoencoder, latents: Tensor) -> Tensor:
    mean, std = _spread(vae)
    return latents * std + mean


@torch.no_grad()
def encode_orders(vae: CausalConvAutoencoder, orders: list[Order]) -> Latents:
    clips = draw(orders)
    device = vae.device
    parts = []
    for i in range(0, len(orders), ENCODE_BATCH):
        with mixed_precision(device):
            encoded = vae.encode(to_video(clips.frames[i : i + ENCODE_BATCH].to(device)))
        parts.append(normalise(vae, encoded.float()).half().cpu())
    temporal, spatial = vae.config.scale_factor_temporal, vae.config.scale_factor_spatial
    covered = F.max_pool3d(clips.covered[:, None].half(), (temporal, spatial, spatial)).bool()
    opening = torch.tensor([order.start_s == 0 for order in orders])
    return Latents(clips.scenes, torch.cat(parts), covered, opening)


def load_or_encode(folder: Path, vae: CausalConvAutoencoder, size: int, count: int, seed: int) -> Latents:
    """Encoded in parts of a thousand clips, each kept on disk, so that an interrupted run goes on where it was."""
    parts = []
    for part, start in enumerate(range(0, count, 1000)):
        path = folder / f"latents-{size}-{part}.pt"
        if not path.exists():
            orders = sample_latent_orders(min(1000, count - start), size, random.Random(f"{seed} {size} {part}"))
            latents = encode_orders(vae, orders)
            part_path = path.with_suffix(".part")
            torch.save(latents, part_path)
            part_path.replace(path)
        with torch.serialization.safe_globals([Latents, Scene, Thing]):
            parts.append(torch.load(path, weights_only=True))
    return Latents(
        [scene for part in parts for scene in part.scenes],
        torch.cat([part.values for part in parts]),
        torch.cat([part.covered for part in parts]),
        torch.cat([part.opening for part in parts]),
    )

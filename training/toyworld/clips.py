"""Draws many clips at once, on every core, and keeps them as one uint8 tensor a size."""

from __future__ import annotations

import multiprocessing
import os
import random
from dataclasses import dataclass

import torch
from torch import Tensor

from training.toyworld.world import Scene, render, sample_scene


@dataclass(frozen=True, slots=True)
class Clips:
    """`frames`: (N, T, 3, H, W) uint8. `covered`: (N, T, H, W) bool, where things are."""

    scenes: list[Scene]
    frames: Tensor
    covered: Tensor


@dataclass(frozen=True, slots=True)
class Order:
    """What to draw: a square clip of `frames` frames, from `start_s` seconds into the scene."""

    scene: Scene
    size: int
    frames: int
    start_s: float = 0.0


def _draw(order: Order) -> tuple[bytes, bytes]:
    torch.set_num_threads(1)
    frames, covered = render(order.scene, order.size, order.size, order.frames, order.start_s)
    return frames.numpy().tobytes(), covered.numpy().tobytes()


def draw(orders: list[Order]) -> Clips:
    """All orders must ask for the same size and number of frames."""
    size, length = orders[0].size, orders[0].frames
    frames = torch.empty(len(orders), length, 3, size, size, dtype=torch.uint8)
    covered = torch.empty(len(orders), length, size, size, dtype=torch.bool)
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for i, (pixels, mask) in enumerate(pool.imap(_draw, orders, chunksize=16)):
            frames[i] = torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(length, 3, size, size)
            covered[i] = torch.frombuffer(bytearray(mask), dtype=torch.bool).view(length, size, size)
    return Clips([order.scene for order in orders], frames, covered)


def sample_orders(count: int, size: int, frames: int, rng: random.Random) -> list[Order]:
    return [Order(sample_scene(rng), size, frames, rng.choice((0.0, rng.uniform(0, 6)))) for _ in range(count)]

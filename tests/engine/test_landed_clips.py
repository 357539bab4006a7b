"""What a cap leaves of the bundled model's clips, on a device that falls to a third of its speed on the way."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from training.toyworld.evaluate import FRAMES, held_out_scenes
from training.toyworld.probe import read
from videosvc.config.models import load_model
from videosvc.config.request import Request, resolve_plan
from videosvc.config.settings import CHECKOUT_CONFIGS, Settings
from videosvc.engine.budget import ComputeCapExceeded
from videosvc.engine.costs import ChunkCosts, ComputeCap, RunCosts
from videosvc.engine.events import ChunkDone, Done, Traded
from videosvc.engine.generate import Engine
from videosvc.engine.loading import open_engine
from videosvc.engine.mux import Mp4Writer
from videosvc.families.far_clip import FarClip

PIECE_S = 0.1
COSTS = RunCosts(PIECE_S, 2 * (ChunkCosts(PIECE_S, PIECE_S, PIECE_S, PIECE_S),), PIECE_S, spread=1.15)
CLIPS = 30


class SlowingDevice:
    """Every piece of work takes `PIECE_S`, and three times that from `slow_from` on."""

    def __init__(self) -> None:
        self.now, self.slow_from = 0.0, 0.0

    def clock(self) -> float:
        return self.now

    def piece(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            self.now += PIECE_S if self.now < self.slow_from else 3 * PIECE_S
            return work(*arguments)

        return timed


def test_colour_and_background_survive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family = open_engine(load_model(CHECKOUT_CONFIGS, "toyworld"), "cpu").family
    device = SlowingDevice()
    for owner, name in (
        (family, "encode_text"), (family, "denoise_together"), (FarClip, "append"), (FarClip, "decode"),
        (Mp4Writer, "write"), (Mp4Writer, "finish"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, device.piece(getattr(owner, name)))
    engine = Engine(family, device.clock)
    chance, right, landed = random.Random(5), Counter[str](), 0
    for number, (scene, prompt) in enumerate(held_out_scenes(CLIPS, seed=40)):
        request = Request(prompt, None, "toyworld", "balanced", size="64x64", seconds=FRAMES / 8, seed=number)
        plan = replace(resolve_plan(request, CHECKOUT_CONFIGS, Settings()).plan, steps=4)
        cap = ComputeCap(chance.uniform(1.9, 2.4) * COSTS.total_s(plan.steps), COSTS)
        device.slow_from = device.now + chance.uniform(0.3, 0.5) * COSTS.total_s(plan.steps)
        try:
            events = list(engine.run(plan, tmp_path / "clip.mp4", cap=cap))
        except ComputeCapExceeded:  # not even one step a chunk fits
            continue
        done = events[-1]
        assert isinstance(done, Done) and done.receipt.compute_seconds <= cap.max_compute_s
        if not any(isinstance(event, Traded) for event in events):
            continue
        landed += 1
        frames = torch.cat([event.pictures for event in events if isinstance(event, ChunkDone)])
        right.update(name for name, agrees in read(frames.permute(0, 3, 1, 2)).agrees(scene).items() if agrees)
    assert landed >= CLIPS / 2
    assert right["colour"] >= 0.9 * landed and right["background"] >= 0.9 * landed

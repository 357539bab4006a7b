from __future__ import annotations

import random

import pytest
import torch

from training.toyworld.autoencoder import to_video
from training.toyworld.clips import draw, sample_orders
from training.toyworld.world import render


def test_clips_come_in_order_whoever_draws_them() -> None:
    orders = sample_orders(5, 64, 3, random.Random(1))
    clips = draw(orders)
    assert clips.frames.shape == (5, 3, 3, 64, 64) and clips.frames.dtype == torch.uint8
    assert clips.covered.shape == (5, 3, 64, 64) and clips.covered.dtype == torch.bool
    for i, order in enumerate(orders):
        frames, covered = render(order.scene, 64, 64, 3, order.start_s)
        assert clips.scenes[i] == order.scene
        assert torch.equal(clips.frames[i], frames) and torch.equal(clips.covered[i], covered)


def test_orders_are_drawn_from_all_over_a_scene() -> None:
    starts = [order.start_s for order in sample_orders(200, 64, 8, random.Random(2))]
    assert 0.3 < sum(start == 0 for start in starts) / 200 < 0.7
    assert max(starts) > 4


def test_videos_span_minus_one_to_one() -> None:
    frames = torch.tensor([0, 255], dtype=torch.uint8).view(1, 2, 1, 1, 1).expand(3, 2, 3, 4, 5)
    video = to_video(frames)
    assert video.shape == (3, 3, 2, 4, 5)
    assert video[:, :, 0].unique().item() == -1 and video[:, :, 1].unique().item() == pytest.approx(1)

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.toyworld import vocabulary as words
from training.toyworld.backgrounds import view
from training.toyworld.poses import catalogue, explained, looks
from training.toyworld.probe import Reading, read
from training.toyworld.tracks import motion
from training.toyworld.world import Scene, Thing, path, render, sample_scene


def single_scenes(count: int, seed: int) -> list[Scene]:
    rng = random.Random(seed)
    scenes = (sample_scene(rng) for _ in range(10 * count))
    return [scene for scene in scenes if len(scene.things) == 1][:count]


def softened(frames: Tensor, generator: torch.Generator) -> Tensor:
    """Blurred by 0.6 pixels and with 3 % of noise: sharper than what a few-step sampler leaves."""
    kernel = torch.exp(-torch.arange(-2, 3).float().square() / (2 * 0.6**2))
    kernel = kernel / kernel.sum()
    planes = F.pad(frames.float().flatten(0, 1)[:, None] / 255, (2, 2, 2, 2), mode="replicate")
    blurred = F.conv2d(F.conv2d(planes, kernel.view(1, 1, 1, 5)), kernel.view(1, 1, 5, 1)).view(frames.shape)
    noisy = blurred + 0.03 * torch.randn(frames.shape, generator=generator)
    return (255 * noisy.clamp(0, 1)).round().to(torch.uint8)


@pytest.mark.parametrize(("size", "soft", "count"), [(64, False, 60), (64, True, 40), (128, False, 30)])
def test_reads_rendered_clips(size: int, soft: bool, count: int) -> None:
    generator = torch.Generator().manual_seed(7)
    wrong = []
    for scene in single_scenes(count, seed=size):
        frames, _ = render(scene, size, size, 16)
        reading = read(softened(frames, generator) if soft else frames)
        if not reading.agrees(scene)["all four"] or reading.camera != scene.camera:
            wrong.append((scene, reading))
    assert len(wrong) <= 0.03 * count, wrong


@pytest.mark.parametrize(("height", "width"), [(64, 96), (96, 64), (96, 96)])
def test_reads_other_shapes(height: int, width: int) -> None:
    scene = Scene((Thing("star", "yellow", "medium", "right", 0.3, 0.5),), "night")
    assert read(render(scene, height, width, 16)[0]).agrees(scene)["all four"]


def test_reads_long_clips_across_the_edge() -> None:
    scene = Scene((Thing("car", "red", "small", "left", 0.7, 0.6),), "desert", "pan")
    assert read(render(scene, 64, 64, 48)[0]) == Reading("desert", "pan", "car", "red", "left")


@pytest.mark.parametrize("background", words.BACKGROUNDS)
def test_an_empty_clip_shows_nothing(background: str) -> None:
    frames, _ = render(Scene((), background), 64, 64, 16)
    assert read(frames) == Reading(background, "fixed", "none", "none", "none")


def test_agreement_is_by_attribute() -> None:
    scene = Scene((Thing("fish", "blue", "small", "left", 0.5, 0.5),), "sea")
    assert Reading("sea", "fixed", "fish", "blue", "left").agrees(scene)["all four"]
    assert Reading("sea", "fixed", "fish", "purple", "left").agrees(scene) == {
        "background": True, "colour": False, "shape": True, "motion": True, "all four": False,
    }  # fmt: skip


@pytest.mark.parametrize("name", words.MOTIONS)
def test_a_path_is_told_from_all_others(name: str) -> None:
    moving = Thing("circle", "red", "medium", name, 0.4, 0.5, phase=1.0)
    frames = list(range(16))
    where = path(moving, torch.tensor(frames) / words.FPS)
    unit = words.SIZES["medium"] * where.scale
    assert motion(frames, where.x, where.y, unit) == ("still" if name == "spins" else name)
    misread = where.x.clone()
    misread[5] += 0.3
    assert motion(frames, misread, where.y, unit) == ("still" if name == "spins" else name)


def test_what_a_pose_explains_is_the_error_it_takes_away() -> None:
    """The matrix product against drawing each pose and taking the difference."""
    torch.manual_seed(0)
    ground = torch.tensor([[100, 150, 200]]).view(1, 3, 1, 1).expand(1, 3, 24, 24) / 255
    seen = torch.rand(1, 3, 24, 24)
    gains = explained(seen, ground, torch.tensor([[[12.0, 12.0, 24.0]]]))
    assert gains.shape == (1, 1, len(catalogue()), len(words.COLOURS))
    colours = torch.tensor(list(words.COLOURS.values())) / 255
    for i in range(0, len(catalogue()), 7):
        opacity, own, *fixed = catalogue()[i].layers
        for j, colour in enumerate(colours):
            drawn = own * colour.view(3, 1, 1) + torch.stack(fixed) + (1 - opacity) * ground[0]
            taken = (seen - ground).square().sum() - (seen[0] - drawn).square().sum()
            assert gains[0, 0, i, j] == pytest.approx(taken.item(), abs=1e-2)


def test_nothing_is_explained_where_only_background_is() -> None:
    frames = torch.tensor(list(view("hills", 64, 64).tobytes())).view(64, 64, 3).permute(2, 0, 1)[None] / 255
    gains = explained(frames, frames, torch.tensor([[[32.0, 32.0, 20.0], [2.0, 2.0, 20.0]]]))
    assert gains.max() < 0


def test_looks_are_upright_or_turn_evenly() -> None:
    ways = looks((0, 1, 2, 5))
    poses = catalogue()
    assert set(ways.kinds) == set(words.KINDS)
    for kind, turning, indices in zip(ways.kinds, ways.turning, ways.poses, strict=True):
        assert {poses[i].kind for i in indices.tolist()} == {kind}
        assert turning == (len(indices.unique()) > 1) and (kind in words.SPINNERS or not turning)

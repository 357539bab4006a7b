from __future__ import annotations

import random

import pytest
import torch

from training.toyworld import vocabulary as words
from training.toyworld.world import Scene, Thing, path, render, sample_scene


def thing(kind: str = "circle", motion: str = "still", colour: str = "red", size: str = "medium") -> Thing:
    return Thing(kind, colour, size, motion, 0.5, 0.5)


def test_same_scene_same_pixels() -> None:
    scene = sample_scene(random.Random(4))
    (frames, covered), (again, covered_again) = render(scene, 64, 64, 4), render(scene, 64, 64, 4)
    assert torch.equal(frames, again) and torch.equal(covered, covered_again)
    assert sample_scene(random.Random(4)) == scene


def test_a_later_part_of_a_scene_is_that_part_of_the_whole() -> None:
    scene = Scene((thing(motion="circles"),), "city", "pan")
    assert torch.equal(render(scene, 64, 64, 8)[0][4:], render(scene, 64, 64, 4, start_s=0.5)[0])


@pytest.mark.parametrize("background", words.BACKGROUNDS)
def test_every_kind_shows_before_every_background(background: str) -> None:
    empty = render(Scene((), background), 64, 64, 1)[0]
    for kind in words.KINDS:
        frames, covered = render(Scene((thing(kind, colour="pink"),), background), 64, 64, 1)
        assert frames.shape == (1, 3, 64, 64) and covered.shape == (1, 64, 64)
        assert covered.float().mean() > 0.03, kind
        changed = (frames != empty).any(1)
        assert changed[covered].float().mean() > 0.8, kind
        assert not changed[~covered].any() or changed[~covered].float().mean() < 0.05, kind


@pytest.mark.parametrize("colour", words.COLOURS)
def test_things_have_their_colour(colour: str) -> None:
    frames, _ = render(Scene((thing("square", colour=colour, size="large"),), "hills"), 64, 64, 1)
    assert frames[0, :, 32, 32].tolist() == list(words.COLOURS[colour])


@pytest.mark.parametrize("motion", words.MOTIONS)
@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 96), (96, 64)])
def test_things_are_where_their_path_says(motion: str, height: int, width: int) -> None:
    moving = thing("square", motion, size="small")
    where = path(moving, torch.arange(16) / words.FPS)
    covered = render(Scene((moving,), "sky"), height, width, 16)[1].float()
    x = (covered.sum(1) * (torch.arange(width) + 0.5)).sum(1) / covered.sum((1, 2)) / width
    y = (covered.sum(2) * (torch.arange(height) + 0.5)).sum(1) / covered.sum((1, 2)) / height
    whole = ((where.x - 0.5).abs() < 0.5 - 0.2 * height / width) & ((where.y - 0.5).abs() < 0.3)  # not cut by an edge
    assert whole.sum() >= 6
    assert torch.allclose(x[whole], where.x[whole], atol=0.5 / width)
    assert torch.allclose(y[whole], where.y[whole], atol=0.5 / height)
    side = 1.79 * words.SIZES["small"] * height * where.scale  # with its outline; pixels it touches count as covered
    extra = (covered.sum((1, 2)).sqrt() - side)[whole]
    assert extra.min() > -0.6 and extra.max() < 2.2


def test_what_leaves_comes_back() -> None:
    times = torch.arange(80) / words.FPS
    for motion in ("left", "right"):
        x = path(thing(motion=motion), times).x
        radius = words.SIZES[thing().size]
        assert x.min() >= -radius and x.max() <= 1 + radius and ((x - 0.5).abs() < 0.02).sum() >= 2


def test_cameras_pan_at_one_speed() -> None:
    still, _ = render(Scene((), "city"), 64, 64, 1)
    panned, _ = render(Scene((), "city", "pan"), 64, 64, 26)
    moved = round(64 * 0.12 * 25 / words.FPS)
    assert (panned[25, ..., :-moved].float() - still[0, ..., moved:].float()).abs().mean() < 1.5


def test_sampled_scenes_cover_the_world() -> None:
    rng = random.Random(0)
    scenes = [sample_scene(rng) for _ in range(2000)]
    singles = [scene.things[0] for scene in scenes if len(scene.things) == 1]
    assert 0.75 < len(singles) / len(scenes) < 0.85
    assert {scene.background for scene in scenes} == set(words.BACKGROUNDS)
    assert {scene.camera for scene in scenes} == set(words.CAMERAS)
    assert {(one.kind, one.colour) for one in singles} == {(k, c) for k in words.KINDS for c in words.COLOURS}
    assert {one.motion for one in singles} == set(words.MOTIONS)
    assert {one.kind for one in singles if one.motion == "spins"} == set(words.SPINNERS)
    for scene in scenes:
        assert len(scene.things) == 1 or {one.motion for one in scene.things} <= set(words.PAIR_MOTIONS)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="kind: 'teapot' is not one of circle"):
        render(Scene((thing("teapot"),), "sky"), 64, 64, 1)
    with pytest.raises(ValueError, match="background: 'moon' is not one of sky"):
        render(Scene((), "moon"), 64, 64, 1)

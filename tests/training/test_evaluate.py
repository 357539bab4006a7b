from __future__ import annotations

from training.toyworld.captions import held_out
from training.toyworld.evaluate import chance, held_out_scenes


def test_scenes_to_judge_by_were_never_trained_on() -> None:
    scenes = held_out_scenes(20, seed=3)
    assert scenes == held_out_scenes(20, seed=3) != held_out_scenes(20, seed=4)
    for scene, text in scenes:
        assert held_out(scene) and len(scene.things) == 1 and scene.camera == "fixed" and text


def test_chance_is_one_in_as_many_as_there_are() -> None:
    row = chance()
    assert (row.background, row.colour, row.shape, row.motion) == (1 / 8, 0.1111, 0.0769, 0.1)
    assert row.all_four < 0.001

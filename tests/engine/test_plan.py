from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videosvc.engine.plan import Plan, frames_of
from videosvc_samplers import draft_sigmas, flow_sigmas


@pytest.mark.parametrize(("seconds", "frames"), [(2.0, 16), (2.06, 17), (0.3, 3), (0.01, 1)])
def test_frames(plan: Plan, seconds: float, frames: int) -> None:
    assert replace(plan, seconds=seconds).frames == frames


@given(seconds=st.floats(0.01, 60), fps=st.integers(1, 60))
def test_a_clip_is_never_shorter_than_asked_for_and_less_than_a_frame_longer(seconds: float, fps: int) -> None:
    frames = frames_of(seconds, fps)
    assert seconds * fps - 1e-5 < frames < seconds * fps + 1


@given(frames=st.integers(1, 5000), fps=st.integers(1, 60))
def test_whole_frames_are_taken_as_they_are(frames: int, fps: int) -> None:
    assert frames_of(frames / fps, fps) == frames


def test_what_is_told_is_the_clips_own_length(plan: Plan) -> None:
    short, traded = replace(plan, seconds=0.3, fps=8), replace(plan, seconds=1.06, fps=1)
    assert (short.clip_seconds, short.as_dict()["seconds"]) == (0.375, 0.375)
    assert (traded.clip_seconds, traded.as_dict()["seconds"]) == (2.0, 2.0)


def test_as_dict_is_the_contract(plan: Plan) -> None:
    named = "size fps frames seconds steps later_steps sampler weights frame_cache decode step_cache model traded"
    assert set(plan.as_dict()) == set(named.split())
    assert (plan.as_dict()["size"], plan.as_dict()["traded"]) == ("64x48", [])


def test_comes_back_from_json(plan: Plan) -> None:
    assert Plan.parse(json.loads(json.dumps(plan.fields()))) == plan


@pytest.mark.parametrize(("sampler", "steps", "most"), [("flow_map", 4, 4), ("draft", 2, 3), ("draft", 8, 6)])
def test_most_steps(plan: Plan, sampler: str, steps: int, most: int) -> None:
    plan = replace(plan, sampler=sampler, steps=steps, draft_threshold=0.2)
    assert plan.most_steps == most == len((draft_sigmas if sampler == "draft" else flow_sigmas)(steps)) - 1
    assert [taken for taken in range(1, 10) if plan.is_whole(0, taken)] == ([2, most] if sampler == "draft" else [most])


@pytest.mark.parametrize(("later", "steps"), [(None, (4, 4, 4)), (2, (4, 2, 2)), (9, (4, 4, 4))])
def test_chunks_after_the_first_may_take_fewer(plan: Plan, later: int | None, steps: tuple[int, ...]) -> None:
    plan = replace(plan, steps=4, later_steps=later)
    assert tuple(map(plan.steps_of, range(3))) == steps
    assert [plan.is_whole(chunk, 2) for chunk in range(2)] == [False, later == 2]


@pytest.mark.parametrize("name", ["seed", "colour"])
def test_a_field_too_few_or_too_many_is_named(plan: Plan, name: str) -> None:
    values = plan.fields()
    if values.pop(name, None) is None:
        values[name] = "red"
    with pytest.raises(ValueError, match=f"plan: {name}: "):
        Plan.parse(values)

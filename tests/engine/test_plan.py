from __future__ import annotations

import json
from dataclasses import replace

import pytest

from videosvc.engine.plan import Plan
from videosvc_samplers import draft_sigmas, flow_sigmas


@pytest.mark.parametrize(("seconds", "frames"), [(2.0, 16), (2.06, 16), (2.07, 17), (0.01, 1)])
def test_frames(plan: Plan, seconds: float, frames: int) -> None:
    assert replace(plan, seconds=seconds).frames == frames


def test_as_dict_is_the_contract(plan: Plan) -> None:
    named = "size fps frames seconds steps sampler weights frame_cache decode step_cache model traded"
    assert set(plan.as_dict()) == set(named.split())
    assert (plan.as_dict()["size"], plan.as_dict()["traded"]) == ("64x48", [])


def test_comes_back_from_json(plan: Plan) -> None:
    assert Plan.parse(json.loads(json.dumps(plan.fields()))) == plan


@pytest.mark.parametrize(("sampler", "steps", "most"), [("flow_map", 4, 4), ("draft", 2, 3), ("draft", 8, 6)])
def test_most_steps(plan: Plan, sampler: str, steps: int, most: int) -> None:
    plan = replace(plan, sampler=sampler, steps=steps, draft_threshold=0.2)
    assert plan.most_steps == most == len((draft_sigmas if sampler == "draft" else flow_sigmas)(steps)) - 1
    assert [taken for taken in range(1, 10) if plan.is_whole(taken)] == ([2, most] if sampler == "draft" else [most])


@pytest.mark.parametrize("name", ["seed", "colour"])
def test_a_field_too_few_or_too_many_is_named(plan: Plan, name: str) -> None:
    values = plan.fields()
    if values.pop(name, None) is None:
        values[name] = "red"
    with pytest.raises(ValueError, match=f"plan: {name}: "):
        Plan.parse(values)

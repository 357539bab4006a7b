from __future__ import annotations

import json
from dataclasses import replace

import pytest

from videosvc.engine.plan import Plan


@pytest.mark.parametrize(("seconds", "frames"), [(2.0, 16), (2.06, 16), (2.07, 17), (0.01, 1)])
def test_frames(plan: Plan, seconds: float, frames: int) -> None:
    assert replace(plan, seconds=seconds).frames == frames


def test_as_dict_is_the_contract(plan: Plan) -> None:
    named = "size fps frames seconds steps sampler weights frame_cache decode model traded"
    assert set(plan.as_dict()) == set(named.split())
    assert (plan.as_dict()["size"], plan.as_dict()["traded"]) == ("64x48", [])


def test_comes_back_from_json(plan: Plan) -> None:
    assert Plan.parse(json.loads(json.dumps(plan.fields()))) == plan


@pytest.mark.parametrize("name", ["seed", "colour"])
def test_a_field_too_few_or_too_many_is_named(plan: Plan, name: str) -> None:
    values = plan.fields()
    if values.pop(name, None) is None:
        values[name] = "red"
    with pytest.raises(ValueError, match=f"plan: {name}: "):
        Plan.parse(values)

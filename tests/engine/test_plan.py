from __future__ import annotations

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

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videosvc.config.models import ModelEntry
from videosvc.config.request import Request
from videosvc.errors import CapTooLow, UserError
from videosvc.pricing.cap import Cap
from videosvc.pricing.goal import Goal
from videosvc.pricing.planner import Planner
from videosvc.pricing.told import at_least, at_most


@given(value=st.floats(1e-9, 1e9))
def test_what_is_told_is_enough_and_short(value: float) -> None:
    more, less = at_least(value), at_most(value)
    assert less == more or float(less) < value < float(more)
    assert float(less) == pytest.approx(value, rel=0.01) and float(more) == pytest.approx(value, rel=0.01)
    assert max(len(more), len(less)) <= 8


def test_by_hand() -> None:
    assert (at_least(0.2903), at_most(0.2903), at_least(0.5), at_most(0.0)) == ("0.291", "0.29", "0.5", "0")
    assert (at_least(12345.0), at_most(12345.0)) == ("12400", "12300")


@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.0, 3.3, 5.0, 7.3])
def test_whoever_does_as_a_refusal_says_is_served(planner: Planner, entry: ModelEntry, seconds: float) -> None:
    asked = Request("a red balloon", seconds=seconds, seed=1)
    with pytest.raises(CapTooLow) as refused:
        planner.quote(asked, Cap(max_compute_s=1e-3))
    told_s = float(refused.value.message.rpartition(" may take ")[2].removesuffix(" s"))
    assert planner.quote(asked, Cap.parse(max_compute_seconds=told_s)).max_compute_s == told_s
    with pytest.raises(UserError) as late:
        planner.quote(asked, goal=Goal(deadline_s=1e-3))
    told_s = float(late.value.message.rpartition(" may take ")[2].removesuffix(" s"))
    assert planner.quote(asked, goal=Goal(deadline_s=told_s)).bound_s <= told_s

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from videosvc.engine.plan import Plan
from videosvc.pricing.batching import PAYS, BatchShare, most_clips, saved_s

SHARES = (
    BatchShare(size="64x64", clips=4, share=0.48),
    BatchShare(size="64x64", clips=2, share=0.61),
    BatchShare(size="128x128", clips=2, share=0.83),
    BatchShare(size="128x128", clips=4, share=0.84),
)


@pytest.mark.parametrize(
    ("side", "allowed", "most"),
    [(64, 4, 4), (64, 3, 2), (64, 1, 1), (64, 0, 1), (128, 4, 2), (112, 4, 2), (80, 9, 4)],
)
def test_as_many_as_pay(plan: Plan, side: int, allowed: int, most: int) -> None:
    assert most_clips(SHARES, replace(plan, width=side, height=side), allowed) == most


def test_where_nothing_was_measured_each_goes_alone(plan: Plan) -> None:
    assert most_clips((), plan, 4) == 1
    assert saved_s((), plan, {2: 1.0}) == 0.0


def test_what_was_saved_is_what_it_would_have_taken_alone_less_what_it_took(plan: Plan) -> None:
    small = replace(plan, width=64, height=64)
    assert saved_s(SHARES, small, {}) == 0.0
    assert saved_s(SHARES, small, {2: 0.61, 4: 0.48}) == pytest.approx(0.39 + 0.52)
    assert saved_s(SHARES, small, {3: 0.61, 9: 0.48}) == pytest.approx(0.39 + 0.52)  # as the next fewer


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shares=st.lists(st.floats(0.05, 1.5), min_size=1, max_size=4), allowed=st.integers(0, 8))
def test_each_clip_more_is_cheaper(plan: Plan, shares: list[float], allowed: int) -> None:
    measured = [BatchShare(size=plan.size, clips=2 + n, share=share) for n, share in enumerate(shares)]
    most = most_clips(measured, plan, allowed)
    assert 1 <= most <= max(1, allowed)
    if most > 1:
        chosen = next(one for one in measured if one.clips == most)
        assert chosen.share <= 1 - PAYS

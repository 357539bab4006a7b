from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videosvc_samplers import flow_sigmas
from videosvc_samplers.schedule import check_sigmas


@settings(deadline=None, max_examples=50)
@given(steps=st.integers(1, 200), shift=st.floats(0.05, 20.0))
def test_levels_fall_strictly_from_exactly_one_to_exactly_zero(steps: int, shift: float) -> None:
    sigmas = flow_sigmas(steps, shift)
    assert len(sigmas) == steps + 1
    assert (sigmas[0], sigmas[-1]) == (1.0, 0.0)
    assert all(t > r for t, r in pairwise(sigmas))


@settings(deadline=None, max_examples=50)
@given(steps=st.integers(1, 50), shift=st.floats(0.05, 20.0))
def test_shift_is_the_published_formula(steps: int, shift: float) -> None:
    even = flow_sigmas(steps)
    assert flow_sigmas(steps, shift) == pytest.approx([shift * x / (1 + (shift - 1) * x) for x in even])


@pytest.mark.parametrize("steps", [0, -3])
def test_refuses_steps_below_one(steps: int) -> None:
    with pytest.raises(ValueError, match=f"num_inference_steps: must be 1 or more, got {steps}"):
        flow_sigmas(steps)


@pytest.mark.parametrize("shift", [0.0, -1.0, float("nan"), float("inf")])
def test_refuses_a_shift_without_meaning(shift: float) -> None:
    with pytest.raises(ValueError, match="shift: must be finite and above 0"):
        flow_sigmas(4, shift)


def test_refuses_a_shift_that_makes_levels_equal() -> None:
    with pytest.raises(ValueError, match="sigmas: must fall strictly"):
        flow_sigmas(4, 1e17)


@pytest.mark.parametrize("sigmas", [(), (1.0,), (0.9, 0.0), (1.0, 0.1), (float("nan"), 0.0)])
def test_refuses_levels_with_other_ends(sigmas: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"sigmas: must run from 1\.0 down to 0\.0"):
        check_sigmas(sigmas)


@pytest.mark.parametrize("sigmas", [(1.0, 0.5, 0.5, 0.0), (1.0, 0.3, 0.6, 0.0), (1.0, float("nan"), 0.0)])
def test_refuses_levels_that_do_not_fall(sigmas: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="sigmas: must fall strictly"):
        check_sigmas(sigmas)


@pytest.mark.parametrize("step", [-1, 4])
def test_refuses_a_step_outside_the_levels(step: int) -> None:
    with pytest.raises(ValueError, match="step: must be from 0 to 3"):
        check_sigmas(flow_sigmas(3), step)

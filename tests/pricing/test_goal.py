from __future__ import annotations

import pytest

from videosvc.errors import UserError
from videosvc.pricing.goal import Goal


def test_nothing_is_a_goal_without_limits() -> None:
    assert Goal.parse() == Goal(None, None)


def test_text_and_numbers() -> None:
    assert Goal.parse("0.9", 30) == Goal(0.9, 30.0)


@pytest.mark.parametrize("quality", [0, -0.1, 1.01, "nan", "inf", "high", ""])
def test_a_quality_is_a_share(quality: float | str) -> None:
    with pytest.raises(UserError, match=r"min_quality: .* must be more than 0 and at most 1") as caught:
        Goal.parse(quality)
    assert caught.value.param == "min_quality"


@pytest.mark.parametrize("deadline", [0, -1, 1e8, "nan", "inf", "soon"])
def test_a_deadline_is_ahead(deadline: float | str) -> None:
    with pytest.raises(UserError, match=r"deadline_seconds: .* must be more than 0") as caught:
        Goal.parse(None, deadline)
    assert caught.value.param == "deadline_seconds"

from __future__ import annotations

from decimal import Decimal

import pytest

from videosvc.errors import UserError
from videosvc.pricing.cap import Cap


@pytest.mark.parametrize("given", ["0.05", 0.05, Decimal("0.05"), " 5e-2 "])
def test_money_is_what_was_written(given: str | float | Decimal) -> None:
    assert Cap.parse(max_cost_usd=given).max_cost_usd == Decimal("0.05")


@pytest.mark.parametrize(
    "given",
    ["nan", "sNaN", "inf", "-inf", "0", "-1", "1e9", "five", "", float("nan"), "1" * 5000, "1e-10", "1e-999999999999"],
)
def test_an_absurd_cost_is_refused(given: str | float) -> None:
    with pytest.raises(UserError, match=r"max_cost_usd: .* must be more than 0 and at most 1000000 USD") as caught:
        Cap.parse(max_cost_usd=given)
    assert (caught.value.param, caught.value.exit_code) == ("max_cost_usd", 2)
    assert len(caught.value.message) < 150


def test_of_money_nine_decimals_count_and_never_upwards() -> None:
    assert Cap.parse(max_cost_usd="0.0000000019").max_cost_usd == Decimal("0.000000001")
    assert Cap.parse(max_cost_usd="0." + 5000 * "9").max_cost_usd == Decimal("0.999999999")


@pytest.mark.parametrize("given", ["nan", "inf", "0", "-0.0", "-1", "1e8", "1e400", "ten", float("nan")])
def test_absurd_compute_is_refused(given: str | float) -> None:
    with pytest.raises(UserError, match=r"max_compute_seconds: .* must be more than 0 and at most 1e\+07") as caught:
        Cap.parse(max_compute_seconds=given)
    assert caught.value.param == "max_compute_seconds"


def test_what_to_do_at_the_cap_is_one_of_two() -> None:
    assert Cap.parse() == Cap(None, None, "degrade")
    assert Cap.parse(on_cap="reject").on_cap == "reject"
    with pytest.raises(UserError, match="on_cap: 'panic' must be degrade or reject"):
        Cap.parse(on_cap="panic")

from __future__ import annotations

from decimal import Decimal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from videosvc.engine.meter import STAGES, Meter


def test_adds_up_stages_and_nothing_between_them() -> None:
    ticks = iter([0.0, 1.0, 50.0, 52.0, 60.0, 63.0])
    it = Meter(torch.device("cpu"), spent={"denoise": 10.0}, clock=lambda: next(ticks))
    with it.stage("text"):
        pass
    with it.stage("denoise"):
        pass
    with pytest.raises(RuntimeError), it.stage("decode"):  # what failed was paid for as well
        raise RuntimeError
    assert it.spent == {"text": 1.0, "denoise": 12.0, "decode": 3.0, "mux": 0.0}
    receipt = it.receipt()
    assert (receipt.compute_seconds, receipt.resumed, receipt.device) == (16.0, True, "cpu")


def test_what_is_done_again_or_beyond_the_limit_is_wasted_and_not_charged() -> None:
    ticks = iter([0.0, 2.0, 10.0, 15.0, 20.0, 24.0])
    it = Meter(torch.device("cpu"), spent={"text": 1.0}, limit_s=9.0, clock=lambda: next(ticks))
    with it.stage("text", again=True):
        pass
    with it.stage("denoise"):
        pass
    with it.stage("decode"):
        pass
    receipt = it.receipt((4, 2))
    assert receipt.by_stage == {"text": 1.0, "denoise": 5.0, "decode": 3.0, "mux": 0.0}
    assert (receipt.compute_seconds, receipt.wasted_s, receipt.steps) == (9.0, 3.0, (4, 2))


def test_closing_the_file_is_told_for_itself_however_much_of_it_is_wasted() -> None:
    ticks = iter([0.0, 2.0, 10.0, 15.0])
    it = Meter(torch.device("cpu"), limit_s=3.0, clock=lambda: next(ticks))
    with it.stage("mux"):
        pass
    with it.closing():
        pass
    receipt = it.receipt()
    assert (receipt.by_stage["mux"], receipt.wasted_s, receipt.closing_s) == (3.0, 4.0, 5.0)


@given(
    seconds=st.lists(st.floats(0, 1e4), min_size=4, max_size=4), limit=st.decimals("0.0001", "10000", places=4),
)  # fmt: skip
def test_nothing_shown_is_above_a_cap_and_what_is_shown_adds_up(seconds: list[float], limit: Decimal) -> None:
    ticks = iter([tick for second in seconds for tick in (0.0, second)])
    it = Meter(torch.device("cpu"), limit_s=float(limit), clock=lambda: next(ticks))
    for stage in STAGES:
        with it.stage(stage):
            pass
    shown = it.receipt().as_dict()
    assert shown["compute_seconds"] <= float(limit)
    assert sum(Decimal(str(part)) for part in shown["by_stage"].values()) == Decimal(str(shown["compute_seconds"]))
    assert shown["compute_seconds"] == pytest.approx(min(sum(seconds), float(limit)), abs=5e-4)

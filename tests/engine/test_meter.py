from __future__ import annotations

import pytest
import torch

from videosvc.engine.meter import Meter


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

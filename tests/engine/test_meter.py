from __future__ import annotations

import pytest
import torch

from videosvc.engine.meter import Meter


def test_adds_up_stages_and_nothing_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 1.0, 50.0, 52.0, 60.0, 63.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    it = Meter(torch.device("cpu"), spent={"denoise": 10.0})
    with it.stage("text"):
        pass
    with it.stage("denoise"):
        pass
    with pytest.raises(RuntimeError), it.stage("decode"):  # what failed was paid for as well
        raise RuntimeError
    assert it.spent == {"text": 1.0, "denoise": 12.0, "decode": 3.0, "mux": 0.0}
    receipt = it.receipt()
    assert (receipt.compute_seconds, receipt.resumed, receipt.device) == (16.0, True, "cpu")

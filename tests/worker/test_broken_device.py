from __future__ import annotations

import pytest
import torch

from videosvc.worker.broken_device import is_broken


@pytest.mark.parametrize("fault", [None, RuntimeError("CUDA error: an illegal memory access was encountered")])
def test_a_gpu_is_broken_if_it_cannot_be_waited_for(fault: Exception | None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []

    def synchronize(device: torch.device) -> None:
        asked.append(device)
        if fault is not None:
            raise fault

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    assert is_broken(torch.device("cuda:1")) is (fault is not None)
    assert not is_broken(torch.device("cpu"))
    assert asked == [torch.device("cuda:1")], "another one's memory is not to be touched"

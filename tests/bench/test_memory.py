"""That what is counted is what lives at once."""

from __future__ import annotations

import pytest
import torch

from videosvc.bench.memory import peak_bytes

KIB = 2**10
CPU = torch.device("cpu")


def some(kib: int) -> torch.Tensor:
    return torch.zeros(kib * KIB, dtype=torch.uint8)


def test_what_is_dropped_makes_room() -> None:
    def in_turn() -> None:
        for _ in range(5):
            some(16)

    def together() -> None:
        kept = [some(16) for _ in range(5)]
        assert kept

    assert peak_bytes(in_turn, CPU) <= 2 * 16 * KIB
    assert peak_bytes(together, CPU) == 5 * 16 * KIB


def test_views_and_what_was_there_before_take_nothing() -> None:
    before = some(64)
    assert peak_bytes(lambda: before.view(2, -1).t().add_(1), CPU) == 0


def test_an_error_is_not_hidden() -> None:
    def fails() -> None:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        peak_bytes(fails, CPU)

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from training.toyworld import reader as reader_module
from training.toyworld.latents import Latents
from training.toyworld.reader import UNKNOWN, Reader, disagreement, kind_of, noisy, train
from training.toyworld.vocabulary import KINDS
from training.toyworld.world import Scene, Thing


def _scene(*kinds: str) -> Scene:
    return Scene(tuple(Thing(kind, "red", "small", "still", 0.5, 0.5) for kind in kinds), "sky")


def _shares(**of: float) -> Tensor:
    return torch.tensor([[of.get(kind, 0.0) for kind in KINDS]])


class _Steps:
    """A stage of `count` steps, however long they take."""

    def __init__(self, folder: Path, name: str, count: float, state: dict[str, object]) -> None:
        self.count = int(count)

    def log(self, **figures: float) -> None: ...

    def __iter__(self) -> Iterator[tuple[int, float]]:
        for step in range(self.count):
            yield 100 + step, step / self.count


def test_a_scene_of_two_kinds_has_none_to_learn_from() -> None:
    assert kind_of(_scene("star")) == KINDS.index("star") == kind_of(_scene("star", "star"))
    assert kind_of(_scene("star", "ring")) == UNKNOWN


def test_agrees_with_what_the_scene_shows_and_with_nothing_else() -> None:
    assert disagreement(_shares(star=1), [_scene("star")]) < 1e-5
    assert disagreement(_shares(star=0.5, ring=0.5), [_scene("star", "ring")]) < 1e-5
    half = disagreement(_shares(star=0.5, heart=0.5), [_scene("star")])
    assert 0.5 < half < disagreement(_shares(heart=1), [_scene("star")])
    assert disagreement(_shares(star=1), [_scene("star", "ring")]) > half


def test_shares_count_what_shows_at_any_size() -> None:
    torch.manual_seed(0)
    for height, width in ((4, 6), (9, 5)):
        latents, level = noisy(torch.randn(3, 4, 2, height, width), 0.5)
        assert ((level >= 0) & (level <= 0.5)).all()
        shares = Reader(4).shares(latents, level)
        assert shares.shape == (3, len(KINDS)) and (shares >= 0).all() and (shares.sum(1) <= 1).all()


def test_learns_to_tell_two_kinds_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stars are bright spots here, rings dark ones."""
    monkeypatch.setattr(reader_module, "BATCH_PLACES", 1024)
    monkeypatch.setattr(reader_module, "WIDTH", 16)
    torch.manual_seed(0)
    kinds = ["star", "ring"] * 20
    covered = torch.zeros(40, 1, 4, 8, 8, dtype=torch.bool)
    covered[..., 2:5, 3:6] = True
    sign = torch.tensor([1.0, -1.0]).repeat(20).view(-1, 1, 1, 1, 1)
    values = (2 * sign * covered + 0.1 * torch.randn(40, 4, 4, 8, 8)).half()
    data = Latents([_scene(kind) for kind in kinds], values, covered, torch.ones(40, dtype=torch.bool))
    monkeypatch.setattr(reader_module, "Stage", _Steps)
    reader = train(tmp_path, 60, {64: data}, "cpu")
    shares = reader.shares(values[:, :, :2].float(), torch.zeros(40))
    assert [KINDS[index] for index in shares.argmax(1).tolist()] == kinds

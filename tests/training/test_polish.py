from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from toyworld_batch import CHANNELS, batch_of, small_transformer
from training.toyworld import polish
from training.toyworld.critic import Critic, critic_loss
from training.toyworld.distil import made_by
from training.toyworld.flow import Batch, Velocity
from training.toyworld.reader import Reader, noisy
from training.toyworld.vocabulary import KINDS
from training.toyworld.world import Scene, Thing


def _sees(kind: str) -> Reader:
    """A reader that sees this kind everywhere."""
    reader = Reader(CHANNELS)
    evidence = torch.full((len(KINDS) + 1,), -9.0)
    evidence[KINDS.index(kind)] = 9.0
    reader.leave.load_state_dict({"weight": torch.zeros_like(reader.leave.weight), "bias": evidence})
    return reader.requires_grad_(False)


def test_a_critic_begins_as_its_reader_with_some_doubt() -> None:
    torch.manual_seed(0)
    reader = Reader(CHANNELS)
    critic = Critic(reader)
    latents, level = noisy(torch.randn(3, CHANNELS, 2, 5, 7), 0.5)
    logits = critic(latents, level)
    assert torch.equal(logits[:, :-1], reader(latents, level))
    shares = critic.shares(latents, level)
    assert shares.shape == (3, len(KINDS) + 1)
    assert torch.allclose(shares.sum(1), torch.ones(3), atol=0.01)
    assert (shares[:, -1] < shares[:, :-1].sum(1)).all()


def test_a_critic_learns_what_was_made_and_still_reads() -> None:
    """Stars are drawn as bright chunks here; what is made is dark."""
    torch.manual_seed(0)
    critic = Critic(_sees("star"))
    optimizer = torch.optim.AdamW(critic.parameters(), lr=2e-3)
    stars = batch_of("star", 8)
    bright = replace(stars, latents=0.1 * stars.latents + 2)
    made = 0.1 * torch.randn_like(stars.latents) - 2
    for _ in range(40):
        read, told = critic_loss(critic, bright, made)
        optimizer.zero_grad()
        (read + told).backward()
        optimizer.step()
    still = torch.zeros(8)
    assert critic.shares(made, still)[:, -1].min() > 0.9
    assert critic.shares(bright.latents, still)[:, KINDS.index("star")].min() > 0.9
    hidden = replace(bright, covered=torch.zeros_like(bright.covered))
    assert critic_loss(critic, hidden, made)[1] == 0, "what is out of the frame is told by nothing"


def test_what_is_judged_must_be_of_its_kind_and_not_look_made() -> None:
    torch.manual_seed(0)
    critic = Critic(_sees("star"))
    stars, rings = batch_of("star"), batch_of("ring")
    assert polish.judged(critic, stars, stars.latents) < 0.01
    assert polish.judged(critic, rings, stars.latents) > 2
    critic.made.load_state_dict({"weight": torch.zeros_like(critic.made.weight), "bias": torch.tensor([20.0])})
    assert polish.judged(critic, stars, stars.latents) > 2


def test_hard_scenes_are_drawn_oftener() -> None:
    def scene(*things: tuple[str, str, str]) -> Scene:
        return Scene(tuple(Thing(kind, "red", size, motion, 0.5, 0.5) for kind, size, motion in things), "sky")

    plain, hard = ("circle", "large", "still"), ("cross", "small", "spins")
    assert polish.emphasis(scene(plain)) == 1 < polish.emphasis(scene(("circle", "small", "still")))
    assert polish.emphasis(scene(plain, hard)) == polish.emphasis(scene(hard)) == 10


class _Stars:
    """Batches of stars."""

    device = "cpu"

    def draw(self, tokens: int, small: bool, captioned: bool, opening: bool = False) -> Batch:
        return batch_of("star")


class _Steps:
    """A stage of six steps, however long they take."""

    def __init__(self, folder: Path, name: str, budget_s: float, state: dict[str, object]) -> None: ...

    def log(self, **figures: float) -> None:
        assert all(figure == figure for figure in figures.values()), "not a number"

    def __iter__(self):  # type: ignore[no-untyped-def]
        yield from ((step, step / 6) for step in range(6))


def test_the_student_moves_and_the_one_it_came_from_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polish, "CRITIC_ALONE", 0.3)
    monkeypatch.setattr(polish, "Stage", _Steps)
    torch.manual_seed(0)
    student, reader = small_transformer(), _sees("ring")
    before = {name: value.clone() for name, value in student.state_dict().items()}
    polished = polish.train(tmp_path, 1.0, _Stars(), student, reader)  # type: ignore[arg-type]
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    moved = [name for name, value in polished.state_dict().items() if not torch.equal(value, before[name])]
    assert moved and all(value.isfinite().all() for value in polished.state_dict().values())
    made = made_by(Velocity(polished), batch_of("star"), polish.REWARD_PARTS, random.Random(0))
    assert made.shape == (4, CHANNELS, 2, 4, 6) and made.isfinite().all()

"""What clips made in two ways say of the difference between the ways."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.paired import Paired

pairs = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=300)


@given(pairs)
def test_it_holds_what_was_measured_and_turns_with_the_ways(clips: list[tuple[bool, bool]]) -> None:
    before, after = ([clip[way] for clip in clips] for way in (0, 1))
    paired, turned = Paired.of(before, after), Paired.of(after, before)
    assert paired.points == pytest.approx(100 * (sum(before) - sum(after)) / len(clips))
    low, high = paired.interval
    assert -100 <= low < high <= 100
    assert turned.interval == pytest.approx((-high, -low))
    assert low <= paired.points * len(clips) / (len(clips) + 2) <= high


def test_no_difference_among_few_clips_proves_little() -> None:
    few, many = (Paired.of([True] * count, [True] * count) for count in (10, 1000))
    assert few.points == many.points == 0
    assert few.interval[1] > 10 > 1 > many.interval[1]


def test_the_truth_lies_within_as_often_as_it_says() -> None:
    """Ways that lose 3 of 100 clips and gain 1: the truth is 2 points."""
    rng = random.Random(0)
    benches, held = 1000, 0
    for _ in range(benches):
        kinds = rng.choices([(True, False), (False, True), (True, True)], [3, 1, 96], k=200)
        low, high = Paired.of(*zip(*kinds, strict=True)).interval
        held += low <= 2 <= high
    assert 0.93 < held / benches < 0.99


def test_ways_of_other_clips_are_no_pairs() -> None:
    with pytest.raises(ValueError):
        Paired.of([True], [True, False])

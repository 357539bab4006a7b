from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videosvc.pricing.cost_model import GUESSED_SPREAD
from videosvc.pricing.speed_log import ALONE, KEPT, RECENT_S, Entry, SpeedLog, append_speed, load_speed_log

CALM = (0.97, 1.0, 1.03)


def _log(*ratios: float, gap_s: float = 1.0) -> SpeedLog:
    return SpeedLog(fingerprint="f", entries=tuple(Entry(at=gap_s * n, ratio=ratio) for n, ratio in enumerate(ratios)))


def test_nothing_seen_is_as_measured() -> None:
    assert _log().slowness(0.0) == 1.0
    assert _log().spread(CALM) == pytest.approx(1.05)  # no bound is nearer than that


def test_half_speed_is_noticed_within_three_jobs_and_so_is_its_end() -> None:
    slowed = [1.0] * 10 + [2.0] * 3
    assert _log(*slowed).slowness(13.0) == 2.0
    assert _log(*slowed, *[1.0] * 3).slowness(16.0) == 1.0


def test_single_outliers_move_nothing() -> None:
    assert _log(1.0, 1.01, 30.0, 0.99, 0.1).slowness(5.0) == 1.0


def test_long_after_the_last_job_it_is_as_it_usually_is() -> None:
    log = _log(*[1.0] * 20, *[2.0] * 5)
    assert log.slowness(25.0) == 2.0
    assert log.slowness(25.0 + 2 * RECENT_S) == 1.0


@given(
    calm=st.lists(st.floats(0.9, 1.1), max_size=40), stall=st.floats(0.01, 100), at=st.integers(0, 40),
    gap_s=st.sampled_from([1.0, RECENT_S / 2, 2 * RECENT_S]), idle_s=st.sampled_from([0.0, 2 * RECENT_S]),
)  # fmt: skip
def test_no_receipt_moves_scale_or_bound_alone(
    calm: list[float], stall: float, at: int, gap_s: float, idle_s: float
) -> None:
    """Wherever it comes, however few there are and however seldom jobs come."""
    place = min(at, len(calm))
    log = _log(*calm[:place], stall, *calm[place:], gap_s=gap_s)
    assert 0.9 <= log.slowness(gap_s * len(calm) + idle_s) <= 1.1
    assert log.spread(8 * CALM) <= ALONE * 1.1 / 0.9 + 1e-9  # less than that is taken for the machine's noise


@given(ratios=st.lists(st.floats(0.01, 100), max_size=KEPT))
def test_what_was_measured_is_never_bounded_more_widely_than_a_guess(ratios: list[float]) -> None:
    assert 1.05 <= _log(*ratios).spread(CALM) <= GUESSED_SPREAD


def test_a_guess_is_given_up_for_the_first_receipt() -> None:
    assert _log().slowness(0.0, guessed=True) == 1.0
    assert _log(0.2).slowness(1.0, guessed=True) == _log(0.2).slowness(9 * RECENT_S, guessed=True) == 0.2


@pytest.mark.parametrize("seed", range(3))
def test_the_spread_covers_a_device_that_slows_in_waves(seed: int) -> None:
    """Half speed for 15 jobs out of 45, and noise of a tenth: nineteen of twenty bounds hold."""
    chance = random.Random(seed)
    log, held, errors = _log(), 0, []
    for number in range(400):
        true = (2.0 if number % 45 >= 30 else 1.0) * chance.lognormvariate(0, 0.1)
        expected = log.slowness(float(number))
        if number >= 100:
            held += true <= expected * log.spread(CALM)
            errors.append(abs(expected - true) / true)
        log = SpeedLog(fingerprint="f", entries=(*log.entries, Entry(at=float(number), ratio=true))[-KEPT:])
    assert held / 300 >= 0.95
    assert sorted(errors)[150] < 0.15


def test_workers_of_a_machine_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "cpu.log"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda ratio: append_speed(path, "f", float(ratio)), range(1, KEPT + 21)))
    log = load_speed_log(path, "f")
    assert len(log.entries) == KEPT
    assert len({entry.ratio for entry in log.entries}) == KEPT


@pytest.mark.parametrize("content", ["", "{}", '{"fingerprint": "f", "entries": [{"at": 1, "ratio": -1}]}', "\0"])
def test_a_damaged_log_is_an_empty_one(tmp_path: Path, content: str) -> None:
    (tmp_path / "log").write_text(content)
    assert load_speed_log(tmp_path / "log", "f").entries == ()


def test_a_log_of_another_fit_does_not_count(tmp_path: Path) -> None:
    append_speed(tmp_path / "log", "old", 2.0)
    assert load_speed_log(tmp_path / "log", "new").entries == ()
    append_speed(tmp_path / "log", "new", 1.5)
    assert [entry.ratio for entry in load_speed_log(tmp_path / "log", "new").entries] == [1.5]

"""The timer that would end this process, looked at and never let run out."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from videosvc_queue import wall_limit
from videosvc_queue.wall_limit import WallLimit


class Time:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(wall_limit, "time", time)
    return time


@pytest.fixture
def limit() -> Iterator[WallLimit]:
    before = signal.getsignal(signal.SIGALRM)
    yield WallLimit()
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def timer_s() -> float:
    return signal.getitimer(signal.ITIMER_REAL)[0]


def test_a_job_alone_has_its_limit(time: Time, limit: WallLimit) -> None:
    with limit.within("a", 500.0):
        assert timer_s() == pytest.approx(500.0, abs=5.0)
    assert timer_s() == 0.0


def test_jobs_at_once_share_the_time(time: Time, limit: WallLimit) -> None:
    with ExitStack() as first:
        first.enter_context(limit.within("a", 600.0))
        time.now += 100.0
        with limit.within("b", 800.0):
            assert timer_s() == pytest.approx(2 * 500.0, abs=5.0)  # a's end
            time.now += 200.0
            first.close()
            assert timer_s() == pytest.approx(700.0, abs=5.0)
    assert timer_s() == 0.0


def test_one_that_is_over_is_ended_at_once_and_not_spared(time: Time, limit: WallLimit) -> None:
    signal.signal(signal.SIGALRM, lambda *_: None)  # else it would end the tests
    with limit.within("a", 600.0):
        time.now += 700.0
        with limit.within("b", 600.0):
            assert timer_s() <= wall_limit.SOON_S

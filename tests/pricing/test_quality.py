from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from videosvc.config.quality import Point, QualityTable, load_quality
from videosvc.config.size import Size
from videosvc.engine.plan import Plan
from videosvc.errors import ConfigError
from videosvc.pricing.ladder import Candidate
from videosvc.pricing.quality import qualities

SIZES = ("64x64", "64x96", "96x96", "128x128")
POINTS = st.builds(
    Point,
    size=st.sampled_from(SIZES),
    steps=st.integers(1, 8),
    sampler=st.just("flow_map"),
    weights=st.sampled_from(["native", "int8"]),
    frame_cache=st.just("native"),
    fps=st.sampled_from([None, 4, 8, 16]),
    quality=st.floats(0, 1),
)
SHARED = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def point(
    quality: float, fps: int | None = None, weights: str = "native", size: str = "64x64", steps: int = 1
) -> Point:
    return Point(
        size=size, steps=steps, sampler="flow_map", weights=weights, frame_cache="native", fps=fps, quality=quality
    )


def worth(plans: list[Plan], *points: Point) -> tuple[list[float], bool]:
    table = QualityTable(model="toyworld", points=points)
    return qualities([Candidate(plan, rank, True) for rank, plan in enumerate(plans)], table)


def at_rates(plan: Plan, *rates: int) -> list[Plan]:
    return [replace(plan, fps=fps) for fps in rates]


def test_a_rate_that_was_not_varied_is_thinned_by_a_stand_in(plan: Plan) -> None:
    assert worth(at_rates(plan, 16, 8, 4), point(0.8)) == (pytest.approx([0.8, 0.72, 0.648]), True)


def test_measured_rates_count_as_measured_and_the_stand_in_only_below_them(plan: Plan) -> None:
    found, measured = worth(at_rates(plan, 16, 8, 4, 2), point(0.8, 8), point(0.7, 4))
    assert (found, measured) == (pytest.approx([0.8, 0.8, 0.7, 0.63]), True)


def test_levers_are_told_apart(plan: Plan) -> None:
    both = [plan, replace(plan, weights="int8")]
    assert worth(both, point(0.8), point(0.6, weights="int8")) == ([0.8, 0.6], True)
    drafts = [replace(plan, sampler="draft", draft_threshold=threshold) for threshold in (0.1, 0.2)]
    draft = point(0.7).model_copy(update={"sampler": "draft", "draft_threshold": 0.1})
    assert worth(drafts[:1], draft) == ([0.7], True) and worth(drafts, draft)[1] is False
    fewer = replace(plan, steps=4, later_steps=2)
    later = point(0.6, steps=4).model_copy(update={"later_steps": 2})
    assert worth([plan, fewer, replace(fewer, later_steps=4)], point(0.8), later) == ([0.8, 0.6, 0.8], True)
    cut = replace(plan, decode="tiled")
    for unlike in (both[1], cut, replace(plan, decode="tiny"), replace(plan, step_cache="mag")):
        assert worth([plan, unlike], point(0.8)) == ([1.0, 0.5], False)  # one was never measured: ranks only
    assert worth([plan, replace(plan, compile=True, decode="full")], point(0.8)) == ([0.8, 0.8], True)


@SHARED
@given(points=st.lists(POINTS, min_size=1, max_size=12), data=st.data())
def test_more_steps_and_frames_are_never_worse(plan: Plan, points: list[Point], data: st.DataObject) -> None:
    def draw() -> tuple[int, int]:
        return data.draw(st.sampled_from((1, 3, 8))), data.draw(st.sampled_from((2, 4, 8, 16)))

    width, height = (data.draw(st.sampled_from((64, 80, 96, 128))) for _ in range(2))
    first, second = draw(), draw()
    less, more = (
        replace(plan, width=width, height=height, steps=extreme(first[0], second[0]), fps=extreme(first[1], second[1]))
        for extreme in (min, max)
    )
    (low, high), measured = worth([less, more], *points)
    if measured:
        assert low <= high


@SHARED
@given(points=st.lists(POINTS, min_size=1, max_size=12))
def test_a_plan_of_a_measured_setting_is_at_least_as_good(plan: Plan, points: list[Point]) -> None:
    """Better only where less of it, at this very size, was."""
    for one in points:
        size = Size.parse(one.size)
        levers = {"weights": one.weights, "sampler": one.sampler, "frame_cache": one.frame_cache}
        asked = replace(plan, width=size.width, height=size.height, steps=one.steps, fps=one.fps or 16, **levers)
        below = [other.quality for other in points if other.size == one.size and other.levers == one.levers
                 and other.steps <= asked.steps and (other.fps or 0) <= asked.fps]  # fmt: skip
        table = QualityTable(model="toyworld", points=tuple(points))
        assert table.quality(asked, asked.fps) == max(below) >= one.quality


def test_a_size_is_as_good_as_it_was_measured(plan: Plan) -> None:
    hardly_learnt = point(0.7), point(0.8, steps=4), point(0.1, size="128x128"), point(0.2, size="128x128", steps=4)
    larger = [replace(plan, width=side, height=side, steps=4) for side in (64, 96, 112, 128, 160)]
    assert worth(larger, *hardly_learnt) == ([0.8, 0.2, 0.2, 0.2, 0.2], True)  # between two it is the worse one
    assert worth(larger, point(0.3), point(0.9, size="128x128")) == ([0.3, 0.3, 0.3, 0.9, 0.9], True)


def test_a_size_of_which_only_more_was_measured_is_no_better_than_that(plan: Plan) -> None:
    points = point(0.7), point(0.1, size="128x128", steps=8)
    larger = [replace(plan, width=128, height=128, steps=steps) for steps in (1, 4, 8)]
    assert worth(larger, *points) == ([0.1, 0.1, 0.1], True)


def test_what_tune_adds_comes_back_from_the_file(tmp_path: Path) -> None:
    table = QualityTable.model_validate(
        {
            "model": "toyworld",
            "sweep": {
                "score": "probe", "method": "share", "reference": "50 steps", "reference_quality": 0.9, "clips": 3,
                "seconds": 2.0, "seed": 0, "device": "cpu", "usd_per_hour": 0.1, "margin": 0.3, "model_hash": "0f",
                "versions": {"torch": "2"}, "measured_at": 1.0,
            },
            "points": [
                {**point(0.8, 8).model_dump(), "quality_error": 0.1, "price_usd": 1e-6, "frontier": True,
                 "compute_s": {"p20": 0.1, "p50": 0.2, "p80": 0.3}}
            ],
        }
    )  # fmt: skip
    (tmp_path / "quality").mkdir()
    (tmp_path / "quality" / "toyworld.json").write_text(table.model_dump_json(exclude_none=True))
    assert load_quality(tmp_path, "toyworld") == table


def test_a_mistake_in_what_tune_adds_is_named(tmp_path: Path) -> None:
    (tmp_path / "quality").mkdir()
    broken = point(0.8).model_dump_json()[:-1] + ',"speed":1}'
    (tmp_path / "quality" / "toyworld.json").write_text(f'{{"model":"toyworld","points":[{broken}]}}')
    with pytest.raises(ConfigError, match=r"toyworld\.json: points\.0\.speed: unknown key"):
        load_quality(tmp_path, "toyworld")

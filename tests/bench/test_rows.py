"""How the waterfall's rows come to be and take their turns."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from videosvc.bench.rounds import rounds
from videosvc.bench.rows import LADDER, climb
from videosvc.engine.plan import Plan

BASE = Plan(
    model="toyworld", prompt="a red circle", negative_prompt=None, seed=1, width=64, height=64, fps=8, seconds=2.0,
    steps=50, sampler="flow_map", guidance_scale=1.25, weights="native", frame_cache="native", decode="full",
)  # fmt: skip


def test_each_row_keeps_the_levers_above_it() -> None:
    rungs = climb(BASE, LADDER, lambda plan: None)
    assert [rung.name for rung in rungs] == [row.name for row in LADDER]
    assert rungs[0].plan == BASE
    merged: dict[str, object] = {}
    for row, rung in zip(LADDER, rungs, strict=True):
        merged |= row.changes
        assert rung.plan == replace(BASE, **merged) and rung.refused is None  # type: ignore[arg-type]


@given(st.sets(st.integers(0, len(LADDER) - 1)))
def test_what_is_refused_is_left_out_further_down(refused: set[int]) -> None:
    tried: list[Plan] = []

    def refusal(plan: Plan) -> str | None:
        tried.append(plan)
        return "no" if len(tried) - 1 in refused else None

    rungs = climb(BASE, LADDER, refusal)
    assert [number for number, rung in enumerate(rungs) if rung.refused] == sorted(refused)
    kept = [row.changes for number, row in enumerate(LADDER) if number not in refused]
    expected = replace(BASE, **{field: value for changes in kept for field, value in changes.items()})
    assert rungs[-1].plan == expected


@given(st.integers(1, 5), st.integers(1, 12))
def test_every_maker_has_every_place_equally_often(makers: int, turns: int) -> None:
    order: list[tuple[int, str, int]] = []
    shares: list[float] = []

    def maker(number: int, prompt: str, seed: int) -> int:
        order.append((number, prompt, seed))
        return number

    named = {str(n): lambda prompt, seed, n=n: maker(n, prompt, seed) for n in range(makers)}
    prompts = [f"prompt {turn}" for turn in range(makers * turns)]
    for made in rounds(named, prompts, 7, shares.append):
        assert made == {str(n): n for n in range(makers)}
    for turn, prompt in enumerate(prompts):
        some = order[turn * makers : (turn + 1) * makers]
        assert {words[1:] for words in some} == {(prompt, 7 + turn)}
    firsts = [number for number, _, _ in order[::makers]]
    assert all(firsts.count(number) == turns for number in range(makers))
    assert shares == sorted(shares) and shares[-1] == 1.0

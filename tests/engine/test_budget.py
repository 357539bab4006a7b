"""The cap, on a clock that only moves when a piece of work is done: exact, and quick."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest

from videosvc.engine.budget import ComputeCapExceeded
from videosvc.engine.checkpoint import Checkpoint
from videosvc.engine.costs import ChunkCosts, ComputeCap, RunCosts
from videosvc.engine.events import ChunkDone, Done, Event, StepDone, Traded
from videosvc.engine.generate import Engine
from videosvc.engine.plan import Plan
from videosvc.families.latent_spec import LatentSpec
from virtual_device import Clock, Rates, VirtualFamily, no_ffmpeg

CHUNKS = 3
STEPS = 8
RATES = Rates(text=0.05, forward=0.10, decode=0.15, write=0.02, finish=0.1)
CHUNK = ChunkCosts(step_s=0.10, append_s=0.10, decode_s=0.15, mux_s=0.02)
COSTS = RunCosts(text_s=0.05, chunks=(CHUNK, CHUNK, replace(CHUNK, append_s=0.0)), finish_s=0.1, spread=1.15)
SPEC = LatentSpec(
    channels=1, spatial=8, temporal=4, first_frames=4, first_chunk=2, chunk=2, short_last_chunk=False, grid=16
)


@dataclass
class Run:
    events: list[Event]
    clock: Clock
    jumps: list[tuple[float, float]]
    frames: int  # in the file
    error: ComputeCapExceeded | None = None

    @property
    def done(self) -> Done:
        assert isinstance(self.events[-1], Done), self.error
        return self.events[-1]

    def assert_kept(self, cap_s: float) -> None:
        """The cap, on the clock as well; beyond it is at most closing the file of a device that has just slowed down,
        which is on the house."""
        receipt = self.done.receipt if self.error is None else self.error.kept
        if receipt is None:
            assert self.clock.now <= cap_s and self.frames == 0
            return
        assert receipt.compute_seconds <= cap_s * (1 + 1e-9)
        assert receipt.compute_seconds + receipt.wasted_s == pytest.approx(self.clock.now)
        assert self.clock.now - receipt.closing_s <= cap_s * (1 + 1e-9)
        assert receipt.wasted_s <= 3 * 1.2 * RATES.finish

    @property
    def trades(self) -> list[tuple[int, int, int]]:
        return [(e.chunk, e.steps_before, e.steps) for e in self.events if isinstance(e, Traded)]


Runner = Callable[..., Run]


@pytest.fixture
def slow_plan(plan: Plan) -> Plan:
    return replace(plan, width=16, height=16, seconds=float(CHUNKS), fps=8, steps=STEPS)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Runner:
    def run(
        plan: Plan, clock: Clock, max_compute_s: float, resume_from: Checkpoint | None = None, bend: float = 0.0
    ) -> Run:
        costs = replace(COSTS, later_steps=plan.later_steps)
        family = VirtualFamily(clock, RATES, SPEC)
        family.bend = bend
        written = no_ffmpeg(monkeypatch, family)
        ran = Run([], clock, family.jumps, 0)
        cap = ComputeCap(max_compute_s, costs)
        try:
            for event in Engine(family, clock).run(plan, Path("clip.mp4"), resume_from, cap):
                ran.events.append(event)
        except ComputeCapExceeded as error:
            ran.error = error
        ran.frames = sum(written)
        return ran

    return run


def test_what_is_needed_is_enough(slow_plan: Plan, run: Runner) -> None:
    """What the planner holds a cap against: with it nothing is traded, on a device as fast as expected."""
    for steps in range(1, STEPS + 1):
        for jitter in (0.0, 0.05):
            ran = run(replace(slow_plan, steps=steps), Clock(jitter=jitter), COSTS.needed_s(steps) * (1 + 2 * jitter))
            assert ran.trades == [] and ran.done.receipt.steps == CHUNKS * (steps,)
            assert ran.clock.now == pytest.approx(ran.done.receipt.compute_seconds)


@pytest.mark.parametrize("later", [1, 3])
def test_fewer_steps_after_the_first_chunk_need_less(slow_plan: Plan, run: Runner, later: int) -> None:
    plan, costs = replace(slow_plan, later_steps=later), replace(COSTS, later_steps=later)
    ran = run(plan, Clock(), costs.needed_s(STEPS))
    assert ran.trades == [] and ran.done.receipt.steps == (STEPS, later, later)
    assert ran.clock.now == pytest.approx(costs.total_s(STEPS))
    assert costs.needed_s(STEPS) < COSTS.needed_s(STEPS)
    short = run(plan, Clock(), costs.needed_s(5))
    assert short.trades[0] == (0, STEPS, 5) and short.done.receipt.steps == (5, later, later)


def test_a_cap_short_of_that_shares_its_steps_among_all_chunks(slow_plan: Plan, run: Runner) -> None:
    ran = run(slow_plan, Clock(), COSTS.needed_s(5))
    assert ran.done.receipt.steps[0] == 5
    assert min(ran.done.receipt.steps) >= 5  # what the first chunks leave goes to the later ones
    assert ran.trades[0] == (0, STEPS, 5)
    assert ran.frames == CHUNKS * 8


def test_a_device_that_slows_lands_by_one_jump_to_the_clean_end(slow_plan: Plan, run: Runner) -> None:
    cap_s = 1.5 * COSTS.needed_s(STEPS)
    ran = run(slow_plan, Clock(slow_from=0.45), cap_s)
    landing = next((t, r) for t, r in ran.jumps if r == 0.0)
    assert landing[0] > 1 / STEPS + 1e-6  # from further off than the last step begins
    assert ran.done.receipt.steps[0] < STEPS and ran.trades
    assert ran.clock.now <= cap_s
    progress = [event.progress for event in ran.events]
    assert progress == sorted(progress) and progress[-1] == 1
    assert ran.frames == CHUNKS * 8


@pytest.mark.parametrize(("jitter", "later"), [(0.0, None), (0.2, None), (0.2, 2)])
def test_no_run_ever_takes_more_than_its_cap(slow_plan: Plan, run: Runner, jitter: float, later: int | None) -> None:
    """Random caps, and a device that falls to a third of its speed somewhere on the way."""
    slow_plan, costs = replace(slow_plan, later_steps=later), replace(COSTS, later_steps=later)
    whole_s, slowed_s = costs.total_s(STEPS), 3 * COSTS.needed_s(1)
    chance = random.Random(7)
    ended = 0
    for _ in range(300):
        cap_s = chance.uniform(0.05, 4.0) * whole_s
        ran = run(slow_plan, Clock(chance.uniform(0, 1) * min(cap_s, whole_s), jitter=jitter), cap_s)
        ran.assert_kept(cap_s)
        if ran.error is None:
            ended += 1
            assert ran.frames == CHUNKS * 8  # never the length
        else:
            assert cap_s < 1.5 * slowed_s  # only where it is tight even for one step a chunk
            assert ran.frames % 8 == 0 and ran.frames < CHUNKS * 8
    assert ended > (180 if later is None else 140)  # of fewer steps there are fewer to give up


def test_what_exists_is_kept(slow_plan: Plan, run: Runner) -> None:
    cap_s = COSTS.needed_s(1)
    ran = run(slow_plan, Clock(slow_from=0.5 * COSTS.total_s(1)), cap_s)
    done = sum(isinstance(event, ChunkDone) for event in ran.events)
    assert ran.error is not None and ran.error.kept is not None
    assert 0 < done < CHUNKS and ran.frames == 8 * done
    assert f"; the first {done} s of the clip are kept" in str(ran.error)
    ran.assert_kept(cap_s)


def test_a_clip_whose_chunks_are_all_done_is_never_thrown_away(slow_plan: Plan, run: Runner) -> None:
    for part in range(100):
        ran = run(slow_plan, Clock(slow_from=part / 100 * COSTS.total_s(1), slowdown=1.5), COSTS.needed_s(1))
        if sum(isinstance(event, ChunkDone) for event in ran.events) == CHUNKS:
            assert ran.error is None and ran.frames == CHUNKS * 8


def test_a_stopped_run_tells_how_slow_the_device_was(slow_plan: Plan, run: Runner) -> None:
    cap_s = 1.5 * COSTS.total_s(1)
    always = run(slow_plan, Clock(slow_from=0.0, slowdown=2.5), cap_s).error
    assert always is not None and always.kept is None and always.slowness == pytest.approx(2.5)
    assert always.spent is not None and 0 < always.spent.compute_seconds <= cap_s
    halfway = run(slow_plan, Clock(slow_from=0.5 * COSTS.total_s(1), slowdown=3.0), COSTS.needed_s(1)).error
    assert halfway is not None and halfway.kept is not None
    assert halfway.slowness is not None and 1.0 < halfway.slowness < 3.0


def test_a_remembered_prompt_tells_of_no_speed(slow_plan: Plan, run: Runner) -> None:
    error = run(slow_plan, Clock(slow_from=0.0, slowdown=0.01), 0.5).error
    assert error is not None and error.spent is not None and error.spent.compute_seconds > 0
    assert error.slowness is None


def test_too_small_a_cap_is_refused_before_it_is_spent(slow_plan: Plan, run: Runner) -> None:
    ran = run(slow_plan, Clock(), 0.5)
    assert ran.error is not None and ran.error.code == "compute_cap_exceeded" and ran.error.exit_code == 3
    assert ran.error.kept is None
    assert "the cap of 0.5 s of compute would be exceeded" in str(ran.error)
    assert ran.clock.now < 0.2  # as soon as it was clear


def test_one_slow_piece_is_not_believed(slow_plan: Plan, run: Runner) -> None:
    clock = Clock()
    clock.stalls[5] = 0.2
    ran = run(slow_plan, clock, COSTS.needed_s(STEPS) + 0.3)
    assert ran.trades == []


def test_resumed_runs_keep_the_cap_and_pay_nothing_twice(slow_plan: Plan, run: Runner) -> None:
    cap_s = COSTS.needed_s(6)
    first = run(slow_plan, Clock(), cap_s)
    spent_s = first.done.receipt.compute_seconds
    for event in first.events:
        if isinstance(event, StepDone | ChunkDone):
            again = run(slow_plan, Clock(), cap_s, event.checkpoint)
            receipt = again.done.receipt
            assert receipt.compute_seconds == pytest.approx(spent_s)
            assert receipt.steps == first.done.receipt.steps
            assert again.clock.now == pytest.approx(receipt.wasted_s + spent_s - sum(event.checkpoint.spent.values()))


def test_a_landed_chunk_resumes_as_it_landed(slow_plan: Plan, run: Runner) -> None:
    cap_s = 1.5 * COSTS.needed_s(STEPS)
    first = run(slow_plan, Clock(slow_from=0.45), cap_s)
    landed = next(event for event in first.events if isinstance(event, StepDone) and event.step == event.steps < STEPS)
    again = run(slow_plan, Clock(), cap_s, landed.checkpoint)
    assert again.done.receipt.steps[0] == landed.steps
    assert not any(isinstance(event, StepDone) and event.chunk == 0 for event in again.events)


def test_a_stall_that_no_guard_covers_is_on_the_house(slow_plan: Plan, run: Runner) -> None:
    cap_s = COSTS.needed_s(STEPS)
    clock = Clock(slow_from=COSTS.total_s(STEPS) - COSTS.finish_s, slowdown=1000)
    receipt = run(slow_plan, clock, cap_s).done.receipt
    assert receipt.compute_seconds == pytest.approx(cap_s)
    assert receipt.wasted_s == pytest.approx(clock.now - cap_s)


@pytest.fixture
def draft_plan(slow_plan: Plan) -> Plan:
    return replace(slow_plan, sampler="draft", draft_threshold=0.1)


def test_a_draft_needs_no_more_than_its_worst_case(draft_plan: Plan, run: Runner) -> None:
    cap_s = COSTS.needed_s(draft_plan.most_steps)
    refined, accepted = (run(draft_plan, Clock(), cap_s, bend=bend) for bend in (1.0, 0.0))
    assert refined.trades == accepted.trades == []
    assert refined.done.receipt.steps == CHUNKS * (draft_plan.most_steps,)
    assert accepted.done.receipt.steps == CHUNKS * (2,)
    saved_s = refined.clock.now - accepted.clock.now
    assert saved_s == pytest.approx(CHUNKS * (draft_plan.most_steps - 2) * RATES.forward)


def test_drafts_keep_the_cap_too(draft_plan: Plan, run: Runner) -> None:
    chance = random.Random(3)
    counts: set[int] = set()
    for _ in range(200):
        cap_s = chance.uniform(0.3, 2.5) * COSTS.total_s(draft_plan.most_steps)
        ran = run(draft_plan, Clock(chance.uniform(0, 1) * cap_s), cap_s, bend=chance.choice([0.0, 1.0]))
        ran.assert_kept(cap_s)
        if ran.error is None:
            assert ran.frames == CHUNKS * 8
            assert ran.jumps[-1][1] == 0.0 or ran.done.receipt.steps[-1] == 2  # the clean end, or half a jump to verify
            counts |= set(ran.done.receipt.steps)
    assert {1, 2, 3, draft_plan.most_steps} <= counts


def test_landing_after_the_draft_costs_nothing_more(draft_plan: Plan, run: Runner) -> None:
    chance = random.Random(3)
    landed = 0
    for _ in range(200):
        cap_s = chance.uniform(1.0, 2.5) * COSTS.total_s(draft_plan.most_steps)
        ran = run(draft_plan, Clock(chance.uniform(0, 1) * cap_s, slowdown=4.0), cap_s, bend=1.0)
        for before, event in pairwise(ran.events):
            landed += isinstance(before, StepDone) and isinstance(event, Traded) and event.steps == 1
        assert ran.jumps.count((1.0, 0.0)) <= CHUNKS, "no draft is made twice"
        if ran.error is None:
            assert len(ran.jumps) == sum(ran.done.receipt.steps)
    assert landed > 0


def test_a_landed_draft_resumes_as_it_landed(draft_plan: Plan, run: Runner) -> None:
    cap_s = 1.5 * COSTS.needed_s(draft_plan.most_steps)
    first = run(draft_plan, Clock(slow_from=0.35), cap_s, bend=1.0)
    assert first.trades and min(first.done.receipt.steps) < draft_plan.most_steps
    for event in first.events:
        if isinstance(event, StepDone) and event.step == event.steps:
            again = run(draft_plan, Clock(), cap_s, event.checkpoint, bend=1.0)
            assert again.done.receipt.steps[: event.chunk + 1] == first.done.receipt.steps[: event.chunk + 1]

"""Clips in threads of their own on one engine: what each becomes, and what each pays."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from videosvc.engine import batch
from videosvc.engine.costs import ChunkCosts, ComputeCap, RunCosts
from videosvc.engine.events import ChunkDone, Done, Event, StepDone, TextEncoded, Traded
from videosvc.engine.generate import Engine
from videosvc.engine.plan import Plan
from videosvc.families.anyflow_far import AnyFlowFAR
from videosvc.families.base import Clip, Jump, TextEmbeds
from videosvc.families.latent_spec import LatentSpec
from virtual_device import Clock, Rates, VirtualFamily, no_ffmpeg

BOUND = 1e-4  # of the largest latent, after all steps of all chunks; measured: 2e-6
Look = Callable[[Event], object]


@dataclass
class Ran:
    """What became of one clip."""

    events: list[Event] = field(default_factory=list)
    error: Exception | None = None

    @property
    def done(self) -> Done:
        assert isinstance(self.events[-1], Done), self.error
        return self.events[-1]

    @property
    def latents(self) -> tuple[Tensor, ...]:
        return [event for event in self.events if isinstance(event, ChunkDone)][-1].checkpoint.finished


class Stop(Exception):
    """Raised by whoever looks at events: the job is cancelled."""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is between two steps is waited for, however busy the machine."""
    monkeypatch.setattr(batch, "LEAST_PATIENCE_S", 60.0)


def make(
    engine: Engine, plans: Sequence[Plan], folder: Path, look: Sequence[Look], cap: ComputeCap | None
) -> list[Ran]:
    """All at once; they set out together once each has its text. `look` is shown each clip's events."""
    ready = threading.Barrier(len(plans))

    def run(number: int) -> Ran:
        ran = Ran()
        try:
            with closing(engine.run(plans[number], folder / f"{number}.mp4", None, cap)) as events:
                for event in events:
                    ran.events.append(event)
                    if isinstance(event, TextEncoded):
                        ready.wait(60)
                    look[number](event)
        except Exception as error:
            ran.error = error
        return ran

    with ThreadPoolExecutor(len(plans)) as threads:
        return list(threads.map(run, range(len(plans))))


def together(
    engine: Engine,
    plans: Sequence[Plan],
    folder: Path,
    look: dict[int, Look] | None = None,
    cap: ComputeCap | None = None,
) -> list[Ran]:
    looks = look or {}
    return make(engine, plans, folder, [looks.get(number, lambda event: None) for number in range(len(plans))], cap)


def alone(family: AnyFlowFAR, plan: Plan, folder: Path) -> Ran:
    return together(Engine(family), [plan], folder)[0]


def same(ran: Ran, other: Ran) -> None:
    assert len(ran.latents) == len(other.latents)
    for one, two in zip(ran.latents, other.latents, strict=True):
        assert (one - two).abs().max() <= BOUND * two.abs().max()


def test_each_clip_is_what_it_is_alone(family: AnyFlowFAR, plan: Plan, tmp_path: Path) -> None:
    """Other prompts, lengths, step counts, samplers and guidance: they join and leave wherever they are."""
    plans = [
        plan,
        replace(plan, prompt="the blue sea", seed=6, seconds=1.0, steps=5),
        replace(plan, seed=7, seconds=4.0, steps=3, frame_cache="int8"),
        replace(plan, seed=8, guidance_scale=2.0, negative_prompt="over", sampler="euler"),
    ]
    engine = Engine(family)
    rans = together(engine, plans, tmp_path)
    for ran, one in zip(rans, plans, strict=True):
        same(ran, alone(family, one, tmp_path))
        assert ran.done.receipt.shared_s and set(ran.done.receipt.shared_s) <= {2, 3, 4}
        assert sum(ran.done.receipt.shared_s.values()) <= ran.done.receipt.by_stage["denoise"] + 1e-9
    assert alone(family, plan, tmp_path).done.receipt.shared_s == {}


def test_of_other_sizes_each_goes_alone(family: AnyFlowFAR, plan: Plan, tmp_path: Path) -> None:
    plans = [plan, replace(plan, width=80)]
    rans = together(Engine(family), plans, tmp_path)
    for ran, one in zip(rans, plans, strict=True):
        same(ran, alone(family, one, tmp_path))
        assert ran.done.receipt.shared_s == {}


def test_a_clip_that_is_cancelled_leaves(family: AnyFlowFAR, plan: Plan, tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, StepDone) and event.chunk == 1:
            raise Stop

    stopped, went_on = together(Engine(family), [plan, replace(plan, seed=9)], tmp_path, {0: stop})
    assert isinstance(stopped.error, Stop)
    same(went_on, alone(family, replace(plan, seed=9), tmp_path))
    assert [path.name for path in tmp_path.iterdir()] != [] and not list(tmp_path.glob(".*"))


class Faulty(AnyFlowFAR):
    """Cannot take more than `most` clips at once, nor the latents `bad`."""

    most = 99
    bad: Tensor | None = None
    sizes: list[int]

    def denoise_together(self, jumps: Sequence[Jump]) -> list[Tensor]:
        self.sizes.append(len(jumps))
        if len(jumps) > self.most:
            raise torch.OutOfMemoryError("no room for so many")
        if any(jump.latents is self.bad for jump in jumps):
            raise RuntimeError("cannot take this one")
        return super().denoise_together(jumps)


@pytest.fixture
def faulty(folder: Path) -> Faulty:
    family = Faulty("tiny", folder, 1, torch.device("cpu"), torch.float32)
    family.sizes = []
    return family


def test_one_that_fails_fails_alone(faulty: Faulty, plan: Plan, tmp_path: Path) -> None:
    def spoil(event: Event) -> None:
        if isinstance(event, StepDone) and event.chunk == 1:
            assert event.checkpoint.sampler is not None
            faulty.bad = event.checkpoint.sampler.latents

    failed, went_on = together(Engine(faulty), [plan, replace(plan, seed=9, seconds=5.0)], tmp_path, {0: spoil})
    assert isinstance(failed.error, RuntimeError) and str(failed.error) == "cannot take this one"
    same(went_on, alone(faulty, replace(plan, seed=9, seconds=5.0), tmp_path))


def test_too_many_for_the_memory_are_served_by_fewer(faulty: Faulty, plan: Plan, tmp_path: Path) -> None:
    faulty.most = 2
    plans = [replace(plan, seed=seed, seconds=4.0) for seed in range(4)]
    rans = together(Engine(faulty), plans, tmp_path)
    tried = [size for size in faulty.sizes if size > 2]
    assert len(tried) == 1  # the device is believed
    for ran, one in zip(rans, plans, strict=True):
        same(ran, alone(faulty, one, tmp_path))


RATES = Rates(text=0.05, forward=0.10, decode=0.15, write=0.02, finish=0.1)
CHUNK = ChunkCosts(step_s=0.10, append_s=0.10, decode_s=0.15, mux_s=0.02)
COSTS = RunCosts(text_s=0.05, chunks=(CHUNK, CHUNK, replace(CHUNK, append_s=0.0)), finish_s=0.1, spread=1.15)
SPEC = LatentSpec(
    channels=1, spatial=8, temporal=4, first_frames=4, first_chunk=2, chunk=2, short_last_chunk=False, grid=16
)


class Sharing(VirtualFamily):
    """A forward of several clips takes half as long again as one of one, for each clip more."""

    def denoise_together(self, jumps: Sequence[Jump]) -> list[Tensor]:
        self.clock.work(self.rates.forward * (1 + 0.5 * (len(jumps) - 1)))
        return [jump.latents for jump in jumps]


@pytest.mark.parametrize("clips", [1, 2, 4])
def test_shares_sum_to_the_devices_time_and_caps_hold(
    clips: int, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    family = Sharing(clock, RATES, SPEC)
    no_ffmpeg(monkeypatch, family)
    whole = replace(plan, width=16, height=16, seconds=3.0, steps=8)
    cap = ComputeCap(COSTS.needed_s(whole.steps), COSTS)
    rans = together(Engine(family, clock), [replace(whole, seed=seed) for seed in range(clips)], tmp_path, cap=cap)
    receipts = [ran.done.receipt for ran in rans]
    assert sum(receipt.compute_seconds for receipt in receipts) == pytest.approx(clock.now)
    assert all(receipt.compute_seconds <= cap.max_compute_s and receipt.wasted_s == 0 for receipt in receipts)
    assert not [event for ran in rans for event in ran.events if isinstance(event, Traded)]
    solo_s = COSTS.total_s(whole.steps)
    if clips == 1:
        assert receipts[0].compute_seconds == pytest.approx(solo_s)
    else:
        assert clock.now < clips * solo_s


def test_who_takes_two_rows_pays_for_two(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Guided(Sharing):
        def open_clip(self, width: int, height: int, text: TextEmbeds, guidance_scale: float, *levers: str) -> Clip:
            clip = super().open_clip(width, height, text, guidance_scale, *levers)
            clip.rows = 2 if guidance_scale > 1 else 1
            return clip

    clock = Clock()
    family = Guided(clock, RATES, SPEC)
    no_ffmpeg(monkeypatch, family)
    whole = replace(plan, width=16, height=16, seconds=3.0, steps=8)
    rans = together(Engine(family, clock), [whole, replace(whole, guidance_scale=2.0)], tmp_path)
    one, two = (ran.done.receipt.shared_s[2] for ran in rans)
    assert two == pytest.approx(2 * one)
    assert sum(ran.done.receipt.compute_seconds for ran in rans) == pytest.approx(clock.now)


def test_a_company_that_leaves_breaks_no_cap(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was cheap in company is not expected to stay so."""
    clock = Clock()
    family = Sharing(clock, RATES, SPEC)
    no_ffmpeg(monkeypatch, family)
    whole = replace(plan, width=16, height=16, seconds=3.0, steps=8)
    cap = ComputeCap(COSTS.needed_s(3), COSTS)

    def leave(event: Event) -> None:
        if isinstance(event, StepDone):
            raise Stop

    _, ran = together(Engine(family, clock), [whole, whole], tmp_path, {0: leave}, cap)
    assert ran.done.receipt.compute_seconds <= cap.max_compute_s and ran.done.receipt.wasted_s == 0
    assert min(ran.done.receipt.steps) >= 3

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from videosvc.config.models import ModelEntry
from videosvc.config.request import Request, resolve_plan
from videosvc.config.settings import Settings
from videosvc.engine.events import Done
from videosvc.engine.generate import Engine
from videosvc.engine.plan import Plan
from videosvc.families.base import Jump
from videosvc.pricing.calibrate import calibrate, fit_seconds
from videosvc.pricing.calibrate_batch import batch_shares
from videosvc.pricing.cost_model import CostModel
from videosvc.pricing.shape import ModelShape
from virtual_device import Clock, Rates, VirtualFamily, no_ffmpeg

RATES = Rates(
    text=0.012, forward=0.008, kilotoken=0.1, megapair=2.0, decode=0.003, decoded_megapixel=0.3,
    write=0.001, finish=0.01, finished_megapixel=0.2,
)  # fmt: skip


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(clock: Clock, entry: ModelEntry, shape: ModelShape, monkeypatch: pytest.MonkeyPatch) -> Engine:
    family = VirtualFamily(clock, RATES, shape.spec, entry.window_chunks or 1)
    no_ffmpeg(monkeypatch, family)
    return Engine(family, clock)


def _true_s(engine: Engine, plan: Plan) -> float:
    *_, done = engine.run(plan, Path("clip.mp4"))  # which the muxer does not write
    assert isinstance(done, Done)
    return done.receipt.compute_seconds


def test_finds_what_each_piece_takes(engine: Engine, entry: ModelEntry, plan: Plan, clock: Clock) -> None:
    clock.stalls[1] = 0.4  # the first step of the process
    shares: list[float] = []
    calibration = calibrate(engine, entry, plan, shares.append)
    expected = {
        "text": {"texts": 0.012},
        "denoise": {"forwards": 0.008, "kilotokens": 0.1, "megapairs": 2.0},
        "decode": {"chunks": 0.003, "megapixels": 0.3},
        "mux": {"chunks": 0.001, "megapixels": 0.0},
        "finish": {"files": 0.01, "megapixels": 0.2},
    }
    for kind, by_feature in expected.items():
        assert calibration.seconds[kind] == pytest.approx(by_feature, abs=1e-4), kind  # type: ignore[index]
    assert calibration.cold_s == pytest.approx(0.4, rel=1e-3)
    assert calibration.residuals == pytest.approx([1.0] * len(calibration.residuals))
    assert shares == sorted(shares) and shares[-1] == 1.0


@pytest.mark.parametrize("preset", ["draft", "balanced", "quality", "reference"])
def test_quotes_on_what_was_not_in_the_grid(
    engine: Engine,
    entry: ModelEntry,
    plan: Plan,
    clock: Clock,
    configs: Path,
    settings: Settings,
    calibration_file: Path,
    preset: str,
) -> None:
    """Single pieces stall, as they do on shared machines; other sizes, lengths and steps are still foreseen."""
    clock.stalls = {number: 0.3 for number in range(0, 100_000, 37)}
    calibration = calibrate(engine, entry, plan)
    clock.stalls = {}
    calibration.save(calibration_file)
    model = CostModel(settings.data_dir, "cpu")
    for size, seconds in (("80x112", 1.3), ("128x128", 5.0), ("64x64", 8.0)):
        request = Request("a red balloon", preset=preset, size=size, seconds=seconds, seed=1)
        held_out = resolve_plan(request, configs, settings).plan
        estimate = model.estimate(held_out, entry)
        assert estimate.calibrated
        assert estimate.compute_s == pytest.approx(_true_s(engine, held_out), rel=0.05)


def test_nothing_is_below_zero_whatever_was_measured() -> None:
    noise = [("denoise", (1.0, 0.1 * n, 0.01 * n * n), seconds) for n, seconds in enumerate((0.5, 0.3, 0.2, 0.1), 1)]
    filler = [("text", (1.0,), 0.1), ("decode", (1.0, 1.0), 0.0), ("mux", (1.0, 1.0), 0.1), ("finish", (1.0, 1.0), 0.1)]
    fitted = fit_seconds([*noise, *filler])  # type: ignore[list-item]
    assert all(seconds >= 0 for by_feature in fitted.values() for seconds in by_feature.values())


def test_a_short_model_is_measured_within_its_limits(engine: Engine, entry: ModelEntry, plan: Plan) -> None:
    calibration = calibrate(engine, entry.model_copy(update={"max_seconds": 0.4}), plan)
    assert calibration.residuals == pytest.approx([1.0] * len(calibration.residuals), rel=0.05)


def test_finds_what_a_step_costs_in_company(
    clock: Clock, entry: ModelEntry, shape: ModelShape, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Sharing(VirtualFamily):
        def denoise_together(self, jumps: Sequence[Jump]) -> list[Tensor]:
            if len(jumps) > 2 and jumps[0].latents.shape[-1] == 128 // self.spec.spatial:
                raise torch.OutOfMemoryError
            self.clock.work(0.1 * (1 + 0.5 * (len(jumps) - 1)))
            return [jump.latents for jump in jumps]

    engine = Engine(Sharing(clock, RATES, shape.spec), clock)
    found = {(one.size, one.clips): one.share for one in batch_shares(engine, entry, replace(plan, compile=True))}
    expected = {(size, 2): 0.75 for size in entry.sizes} | {("64x64", 4): 0.625, ("96x96", 4): 0.625}
    assert found == pytest.approx(expected)

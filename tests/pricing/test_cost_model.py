from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from videosvc.config.json_file import write_json_file
from videosvc.config.models import ModelEntry
from videosvc.config.settings import Settings
from videosvc.engine.meter import ComputeReceipt
from videosvc.engine.plan import Plan
from videosvc.families.attention_choice import AttentionChoice, choice_path, installed
from videosvc.pricing.calibration import Calibration, calibration_path, fingerprint_of, levers_of
from videosvc.pricing.cost_model import CostModel
from videosvc.pricing.shape import ModelShape


@pytest.fixture
def model(settings: Settings) -> CostModel:
    return CostModel(settings.data_dir, "cpu")


def _receipt(seconds: float, steps: tuple[int, ...], resumed: bool = False) -> ComputeReceipt:
    return ComputeReceipt({"text": 0.0, "denoise": seconds, "decode": 0.0, "mux": 0.0}, "cpu", resumed, steps)


def test_by_hand(model: CostModel, entry: ModelEntry, plan: Plan, calibrated: Calibration) -> None:
    estimate = model.estimate(plan, entry)
    first, second = (0.008 + 0.1 * 0.032 + 0.5 * 32 * pairs / 1e6 for pairs in (32, 64))
    pixels = 8 * 64 * 64 / 1e6
    assert estimate.by_stage == pytest.approx(
        {
            "text": 0.01,
            "denoise": 5 * first + 4 * second,  # the first chunk enters the cache, which is a forward
            "decode": 2 * (0.002 + 0.2 * pixels),
            "mux": 2 * 0.0005 + 0.01 + 0.05 * 2 * pixels,
        }
    )
    assert estimate.compute_s == pytest.approx(sum(estimate.by_stage.values()))
    assert estimate.bound_s == pytest.approx(1.1 * estimate.compute_s)
    assert estimate.needed_s >= estimate.bound_s and estimate.calibrated
    assert model.estimate(plan, entry, cold=True).compute_s == pytest.approx(estimate.compute_s + 0.3)


def test_more_of_anything_costs_more(model: CostModel, entry: ModelEntry, plan: Plan, calibrated: Calibration) -> None:
    base = model.estimate(plan, entry).compute_s
    more = {"steps": 5, "width": 80, "height": 80, "seconds": 3.1, "fps": 12, "guidance_scale": 2.0}
    for field, value in more.items():
        assert model.estimate(replace(plan, **{field: value}), entry).compute_s > base, field


def test_what_was_never_measured_is_guessed_with_a_wide_bound(model: CostModel, entry: ModelEntry, plan: Plan) -> None:
    guessed = model.estimate(plan, entry)
    assert not guessed.calibrated
    assert guessed.bound_s == pytest.approx(3 * guessed.compute_s)
    assert model.estimate(replace(plan, width=128, height=128), entry).compute_s > guessed.compute_s
    gpu = CostModel(model._data_dir, "NVIDIA H200").estimate(plan, entry)
    assert 0 < gpu.compute_s < guessed.compute_s


def test_other_levers_are_not_what_was_measured(
    model: CostModel, entry: ModelEntry, plan: Plan, calibrated: Calibration
) -> None:
    assert not model.estimate(replace(plan, weights="int8"), entry).calibrated


def test_a_new_fit_counts_at_once(
    model: CostModel, entry: ModelEntry, plan: Plan, calibrated: Calibration, calibration_file: Path
) -> None:
    before = model.estimate(plan, entry).compute_s
    text = calibrated.seconds["text"]["texts"] + 1.0
    calibrated.model_copy(update={"seconds": {**calibrated.seconds, "text": {"texts": text}}}).save(calibration_file)
    assert model.estimate(plan, entry).compute_s == pytest.approx(before + 1.0)


def test_receipts_move_the_scale_and_keep_the_shape(
    model: CostModel, entry: ModelEntry, plan: Plan, calibrated: Calibration
) -> None:
    large = replace(plan, width=128, height=128)
    before = {size: model.estimate(size, entry).compute_s for size in (plan, large)}
    for _ in range(3):  # the host falls to half its speed
        model.observe(plan, entry, _receipt(2 * before[plan], (4, 4)))
    for size, seconds in before.items():
        assert model.estimate(size, entry).compute_s == pytest.approx(2 * seconds)


def test_a_landed_job_teaches_as_well_as_a_whole_one(
    model: CostModel, entry: ModelEntry, plan: Plan, calibrated: Calibration
) -> None:
    costs = model.compute_cap(plan, entry, 9.0).costs
    landed_s = costs.text_s + costs.chunks[0].total_s(3) + costs.chunks[1].total_s(1) + costs.finish_s
    for _ in range(2):
        model.observe(plan, entry, _receipt(1.5 * landed_s, (3, 1)))
    assert model.fit(entry, plan).slowness == pytest.approx(1.5)


def test_a_stopped_job_teaches_too(model: CostModel, entry: ModelEntry, plan: Plan, calibrated: Calibration) -> None:
    before_s = model.estimate(plan, entry).compute_s
    model.observe_stopped(plan, entry, None)
    assert model.estimate(plan, entry).compute_s == before_s
    for _ in range(2):
        model.observe_stopped(plan, entry, 3.0)
    assert model.estimate(plan, entry).compute_s == pytest.approx(3 * before_s)
    assert model.compute_cap(plan, entry, 9.0).costs.slowness == 3.0  # what the next one is measured against


def test_a_resumed_job_teaches_nothing(
    model: CostModel, entry: ModelEntry, plan: Plan, calibrated: Calibration
) -> None:
    model.observe(plan, entry, _receipt(99.0, (4, 4), resumed=True))
    assert model.fit(entry, plan).slowness == 1.0


@pytest.mark.parametrize("calm", range(4))
def test_one_job_that_stalled_spoils_neither_price_nor_bound(
    model: CostModel, entry: ModelEntry, plan: Plan, calibrated: Calibration, calibration_file: Path, calm: int
) -> None:
    """Whether it is the first after the calibration or comes later; and the next calm one changes nothing of that."""
    calibrated.model_copy(update={"residuals": 6 * calibrated.residuals}).save(calibration_file)
    before = model.estimate(plan, entry)
    for times in (*calm * (1.0,), 40.0, 1.0):
        model.observe(plan, entry, _receipt(times * before.compute_s, (4, 4)))
        after = model.estimate(plan, entry)
        assert after.compute_s == pytest.approx(before.compute_s)
        assert after.bound_s <= 1.01 * before.bound_s


def test_what_jobs_taught_a_guess_or_an_earlier_fit_is_not_held_against_a_new_one(
    model: CostModel, entry: ModelEntry, plan: Plan, calibration_file: Path, request: pytest.FixtureRequest
) -> None:
    guessed = model.estimate(plan, entry)
    for _ in range(5):
        model.observe(plan, entry, _receipt(0.1 * guessed.compute_s, (4, 4)))
    assert model.estimate(plan, entry).compute_s == pytest.approx(0.1 * guessed.compute_s)
    calibrated: Calibration = request.getfixturevalue("calibrated")
    assert model.fit(entry, plan).slowness == 1.0, "the fit says what a job takes, and no job was held against it yet"
    fitted = model.estimate(plan, entry)
    for _ in range(5):
        model.observe(plan, entry, _receipt(2 * fitted.compute_s, (4, 4)))
    assert model.fit(entry, plan).slowness == pytest.approx(2.0)
    calibrated.model_copy(update={"measured_at": time.time()}).save(calibration_file)
    assert model.estimate(plan, entry) == fitted


def test_a_device_that_jobs_of_one_fit_found_slow_is_slow_for_the_others(
    model: CostModel, entry: ModelEntry, plan: Plan, calibrated: Calibration, settings: Settings
) -> None:
    other, guessed = replace(plan, weights="int8"), replace(plan, weights="bf16")
    path = calibration_path(settings.data_dir, "cpu", entry.name, other)
    calibrated.model_copy(update={"levers": levers_of(other)}).save(path)
    model.observe_stopped(plan, entry, 40.0)
    assert model.fit(entry, other).slowness == 1.0, "one job may have stalled"
    for _ in range(4):
        model.observe_stopped(plan, entry, 2.0)
    assert model.fit(entry, other).slowness == model.fit(entry, plan).slowness == 2.0
    assert model.fit(entry, guessed).slowness == 1.0, "what a guess is off by is its own"
    model.observe_stopped(other, entry, 2.2)
    assert model.fit(entry, other).slowness == 2.0, "nor is one of its own jobs believed"
    for _ in range(2):
        model.observe_stopped(other, entry, 3.0)
    assert (model.fit(entry, other).slowness, model.fit(entry, plan).slowness) == (3.0, 2.0), "each by its own"
    calibrated.model_copy(update={"levers": levers_of(other), "measured_at": time.time()}).save(path)
    assert model.fit(entry, other).slowness == 1.0, "it was measured as the device is now"


def test_jobs_that_were_guessed_at_tell_nothing_of_the_device(
    model: CostModel, entry: ModelEntry, plan: Plan, calibrated: Calibration
) -> None:
    for _ in range(5):
        model.observe_stopped(replace(plan, weights="bf16"), entry, 0.1)
    assert model.fit(entry, plan).slowness == 1.0


def test_steps_that_a_cache_skipped_tell_nothing_of_the_device(
    model: CostModel, entry: ModelEntry, plan: Plan, calibrated: Calibration, settings: Settings
) -> None:
    cached = replace(plan, step_cache="sea")
    path = calibration_path(settings.data_dir, "cpu", entry.name, cached)
    calibrated.model_copy(update={"levers": levers_of(cached)}).save(path)
    for _ in range(5):
        model.observe_stopped(cached, entry, 0.4)
    assert model.fit(entry, cached).slowness == 0.4
    assert model.fit(entry, plan).slowness == 1.0


def test_the_cap_of_a_run_has_the_costs_of_its_plan(
    model: CostModel, entry: ModelEntry, plan: Plan, calibrated: Calibration
) -> None:
    cap = model.compute_cap(plan, entry, 9.0)
    assert cap.max_compute_s == 9.0
    assert cap.costs.total_s(plan.steps) == pytest.approx(model.estimate(plan, entry).compute_s)
    assert cap.costs.chunks[-1].append_s == 0.0


def test_a_fit_by_an_attention_package_goes_stale_with_it(
    model: CostModel, entry: ModelEntry, plan: Plan, shape: ModelShape, calibrated: Calibration, settings: Settings,
    calibration_file: Path,
) -> None:  # fmt: skip
    entry = entry.model_copy(update={"attention": "auto"})
    path = choice_path(settings.data_dir / "quantized", entry.name, "cpu")
    choice = AttentionChoice(
        device="cpu", model=entry.name, size="64x64", frames=8, versions=installed(), seconds={"math": 1.0}, refused={}
    )
    fingerprint = fingerprint_of(shape.model_hash, "auto", "math")
    calibrated.model_copy(update={"fingerprint": fingerprint}).save(calibration_file)
    assert not model.estimate(plan, entry).calibrated, "nothing says that it attends so"
    write_json_file(path, choice)
    assert model.estimate(plan, entry).calibrated
    write_json_file(path, choice.model_copy(update={"versions": {**installed(), "flash-attn": "99.0"}}))
    assert not model.estimate(plan, entry).calibrated

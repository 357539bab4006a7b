"""What a worker has ready before it takes jobs: no job waits for a compiler, or pays for one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from videosvc.config.reload import LiveConfig
from videosvc.config.settings import Settings
from videosvc.families import block_levers
from videosvc.pricing.calibration import calibration_path
from videosvc.worker.handler import VideoHandler
from videosvc.worker.main import MAX_MODELS, make_handler, warm_up_plans
from videosvc_queue.events import EventBus
from videosvc_queue.job import Status
from videosvc_queue.runner import run_one
from videosvc_queue.store import Store

NAMED = "cpu of a test"  # no worker's: this process keeps its priority


@pytest.fixture
def compiled_preset(folder: Path) -> str:
    """A preset beside the default one, which is eager."""
    text = (folder / "presets" / "draft.toml").read_text().replace('name = "draft"', 'name = "quick"')
    (folder / "presets" / "quick.toml").write_text(text.replace("[levers]", "[levers]\ncompile = true"))
    return "quick"


@pytest.fixture
def config(folder: Path, compiled_preset: str, tmp_path: Path) -> LiveConfig:
    (tmp_path / "seen").mkdir()
    return LiveConfig(folder, tmp_path / "seen")


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Blocks of every model that was compiled, which takes no time here; all else is as it is."""
    compiled: list[int] = []

    def compile_blocks(transformer: Any, trials: Callable[[], None]) -> None:
        compiled.append(len(transformer.blocks))
        trials()

    monkeypatch.setattr(block_levers, "compile_blocks", compile_blocks)
    monkeypatch.setattr(block_levers, "compile_refusal", lambda device: None)
    return compiled


def test_a_job_finds_its_preset_compiled(
    compilations: list[int], config: LiveConfig, settings: Settings, compiled_preset: str, queue: Store,
    redis_url: str, quoted: Any, submitted: Any,
) -> None:  # fmt: skip
    handler = make_handler(settings, config, NAMED)
    assert len(compilations) == 1
    for preset in (compiled_preset, settings.preset):
        submitted(quoted(preset=preset))
        taken = run_one(queue, EventBus(redis_url), handler, ["toyworld"], "worker-1")
        assert taken is not None
        job = queue.get(taken.id)
        assert job is not None and job.status is Status.COMPLETED and job.result is not None
        receipt = job.result["receipt"]
        assert receipt["compute_seconds"] == pytest.approx(sum(receipt["by_stage"].values()), abs=3e-4)
    assert len(compilations) == 1, "at the start, and no more"


def test_every_compiled_preset_is_compiled_and_the_first_ones_stay(
    compilations: list[int], config: LiveConfig, settings: Settings, compiled_preset: str, folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(block_levers, "bfloat16_refusal", lambda device: None)
    text = (folder / "presets" / f"{compiled_preset}.toml").read_text().replace('"quick"', '"small"')
    (folder / "presets" / "small.toml").write_text(text.replace('weights = "native"', 'weights = "bf16"'))
    config.refresh()
    plans = warm_up_plans(config.folder, settings)
    assert [(one.weights, one.compile) for one in plans] == [("native", False), ("native", True), ("bf16", True)]
    handler = make_handler(settings, config, NAMED)
    assert isinstance(handler, VideoHandler) and len(compilations) == len(plans) - 1 == MAX_MODELS
    for plan in plans[:MAX_MODELS]:
        handler.warm_up(plan)
        assert len(compilations) == MAX_MODELS, "it was in memory"


def test_a_worker_warms_the_first_model_where_a_request_means_any(config: LiveConfig, settings: Settings) -> None:
    (plan, *_) = warm_up_plans(config.folder, settings.model_copy(update={"model": "auto"}))
    assert plan.model == "toyworld"


def test_a_worker_says_once_that_its_device_was_never_calibrated(
    compilations: list[int], config: LiveConfig, settings: Settings, queue: Store, quoted: Any,
    measured: Callable[..., None], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    make_handler(settings, config, "cpu of another")
    says = "cpu of another is not calibrated: quotes are guesses until `videosvc calibrate` has run"
    assert caplog.messages.count(says) == 1
    caplog.clear()
    quote = quoted(preset=settings.preset)
    measured(quote)
    path, moved = (calibration_path(settings.data_dir, name, "toyworld", quote.plan) for name in ("cpu", NAMED))
    path.rename(moved)
    make_handler(settings, config, NAMED)
    assert "calibrate" not in caplog.text


def test_a_worker_without_a_compiler_serves_what_needs_none(
    config: LiveConfig, settings: Settings, compiled_preset: str, queue: Store, redis_url: str, quoted: Any,
    submitted: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(block_levers, "compile_refusal", lambda device: "there is no compiler")
    handler = make_handler(settings, config, NAMED)
    assert "lever compile=true cannot be: there is no compiler" in caplog.text
    ends = []
    for preset in (compiled_preset, settings.preset):
        submitted(quoted(preset=preset))
        taken = run_one(queue, EventBus(redis_url), handler, ["toyworld"], "worker-1")
        assert taken is not None
        job = queue.get(taken.id)
        assert job is not None
        ends.append((job.status, job.error_code))
    assert ends == [(Status.FAILED, "model_unavailable"), (Status.COMPLETED, None)]


def test_only_other_levers_are_warmed_beside_the_default(config: LiveConfig, settings: Settings) -> None:
    default, compiled = warm_up_plans(config.folder, settings)
    assert (default.compile, compiled.compile) == (False, True)
    (alone,) = warm_up_plans(config.folder, settings.model_copy(update={"preset": "quick"}))
    assert alone.compile


def test_every_model_that_takes_it_is_compiled(config: LiveConfig, settings: Settings, folder: Path) -> None:
    models = folder / "models.toml"
    causal = models.read_text().replace('name = "toyworld"', 'name = "second"')
    wan = '[[models]]\nname = "film"\npath = "film"\nfamily = "wan"\nsizes = ["64x64"]\n'  # which has no flow map
    models.write_text("\n".join((wan, causal, models.read_text())))
    config.refresh()
    plans = warm_up_plans(config.folder, settings)
    assert [(one.model, one.compile) for one in plans] == [("toyworld", False), ("toyworld", True), ("second", True)]

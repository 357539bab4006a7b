"""A tiny model, known presets, and everything a job passes through on its way to the handler."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from known_configs import known_configs
from tiny_model import make_tiny_checkpoint
from videosvc.artifacts.store import ArtifactStore
from videosvc.config.models import load_model
from videosvc.config.reload import LiveConfig
from videosvc.config.request import Request
from videosvc.config.settings import Settings, load_settings
from videosvc.engine.loading import open_engine
from videosvc.pricing.batching import BatchShare
from videosvc.pricing.calibration import Calibration, calibration_path, fingerprint_of, levers_of
from videosvc.pricing.cost_model import CostModel
from videosvc.pricing.features import FEATURES
from videosvc.pricing.planner import Planner
from videosvc.pricing.quote import Quote
from videosvc.pricing.shape import read_shape
from videosvc.worker import attempt
from videosvc.worker.checkpoints import CheckpointFolder
from videosvc.worker.handler import VideoHandler
from videosvc.worker.warm_models import WarmModels
from videosvc_queue.events import EventBus
from videosvc_queue.job import Job, NewJob
from videosvc_queue.store import Store
from videosvc_queue.tenants import TenantLimits
from videosvc_queue.tiers import Tier
from worker_bench import Bench

TENANT = "ann"


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read it only: it is shared by all tests."""
    return make_tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A known configuration, whose model toyworld is the tiny one."""
    copy = tmp_path / "configs"
    known_configs(copy)
    models = copy / "models.toml"
    models.write_text(models.read_text().replace('"bundled:toyworld"', f'"{tiny_checkpoint}"'))
    return copy


@pytest.fixture
def settings(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("VIDEOSVC_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("VIDEOSVC_DEVICE", "cpu")
    return load_settings(folder)


@pytest.fixture
def queue(settings: Settings) -> Iterator[Store]:
    settings.data_dir.mkdir()
    with Store(settings.database_url) as store:
        store.migrate()
        yield store


@pytest.fixture
def artifacts(settings: Settings) -> ArtifactStore:
    return ArtifactStore(settings.artifact_url)


@pytest.fixture
def checkpoints(settings: Settings) -> Path:
    return settings.data_dir / "checkpoints"


@pytest.fixture
def new_handler(
    folder: Path, settings: Settings, artifacts: ArtifactStore, checkpoints: Path, tmp_path: Path
) -> Callable[[], VideoHandler]:
    """What a worker has that was started anew."""
    (tmp_path / "live").mkdir()
    config = LiveConfig(folder, tmp_path / "live")

    def make() -> VideoHandler:
        costs = CostModel(settings.data_dir, "cpu")
        models = WarmModels("cpu", 1)
        return VideoHandler(config, models, costs, artifacts, CheckpointFolder(checkpoints), settings.retention_s)

    return make


@pytest.fixture
def handler(new_handler: Callable[[], VideoHandler]) -> VideoHandler:
    return new_handler()


class HookedBus(EventBus):
    """Calls `hook` after each event of its kind: what others do while a job runs, at a moment that is known."""

    hook: tuple[str, Callable[[int], object]] | None = None
    calls = 0

    def publish(self, job_id: str, kind: str, data: dict[str, Any]) -> None:
        super().publish(job_id, kind, data)
        if self.hook is not None and self.hook[0] == kind:
            self.calls += 1
            self.hook[1](self.calls)


@pytest.fixture(autouse=True)
def every_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """However quick they are, so that hooks can count them."""
    monkeypatch.setattr(attempt, "PROGRESS_S", 0.0)


@pytest.fixture
def bus(redis_url: str) -> Iterator[HookedBus]:
    with closing(HookedBus(redis_url)) as opened:
        yield opened


@pytest.fixture
def quoted(folder: Path, settings: Settings) -> Callable[..., Quote]:
    """A quote for a request; small and quick if it says no more."""
    planner = Planner(folder, settings, "cpu")

    def quote(**fields: Any) -> Quote:
        quick = {"prompt": "a red circle", "preset": "draft", "seconds": 2.0, "seed": 7, "size": "64x64"}
        return planner.quote(Request(**(quick | fields)))

    return quote


@pytest.fixture
def submitted(queue: Store) -> Callable[..., Job]:
    """Submits a quote as the API does."""

    def submit(quote: Quote, tier: Tier = Tier.INTERACTIVE) -> Job:
        submit.number += 1  # type: ignore[attr-defined]
        job = NewJob(
            id=f"video_{submit.number:024}",  # type: ignore[attr-defined]
            tenant=TENANT,
            tier=tier,
            route=quote.plan.model,
            payload={"plan": quote.plan.fields(), "quote": quote.fields(), "preset": quote.preset},
            predicted_s=quote.compute_s,
            hold_usd=quote.price_usd,
            max_run_s=300.0,
        )
        return queue.submit(job, TenantLimits())[0]

    submit.number = 0  # type: ignore[attr-defined]
    return submit


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go: empty again after every attempt."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def bench(queue: Store, bus: HookedBus, artifacts: ArtifactStore, work: Path) -> Bench:
    return Bench(queue, bus, artifacts)


@pytest.fixture
def whole(folder: Path, tmp_path: Path) -> Callable[[Quote], bytes]:
    """The clip of a quote, made without a queue."""

    def make(quote: Quote) -> bytes:
        output = tmp_path / "whole.mp4"
        list(open_engine(load_model(folder, "toyworld"), "cpu").run(quote.plan, output))
        return output.read_bytes()

    return make


@pytest.fixture
def measured(settings: Settings, folder: Path) -> Callable[..., None]:
    """As if `videosvc calibrate` had found that a step of two clips costs each this share of what it does alone, and
    that the first clip of a model takes so much longer."""

    def measure(quote: Quote, share: float = 0.5, cold_s: float = 0.0) -> None:
        entry = load_model(folder, quote.plan.model)
        Calibration(
            device="cpu",
            model=entry.name,
            levers=levers_of(quote.plan),
            fingerprint=fingerprint_of(read_shape(entry).model_hash),
            measured_at=1.8e9,
            seconds={kind: dict.fromkeys(names, 1e-3) for kind, names in FEATURES.items()},
            cold_s=cold_s,
            residuals=(1.0,),
            batch=(BatchShare(size="64x64", clips=2, share=share),),
        ).save(calibration_path(settings.data_dir, "cpu", entry.name, quote.plan))

    return measure

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from known_configs import known_configs
from videosvc.config.models import ModelEntry, load_model
from videosvc.config.request import Request, resolve_plan
from videosvc.config.settings import Settings, load_settings
from videosvc.engine.plan import Plan
from videosvc.pricing.calibration import Calibration, calibration_path, fingerprint_of, levers_of
from videosvc.pricing.features import Kind
from videosvc.pricing.planner import Planner
from videosvc.pricing.shape import ModelShape, read_shape

# About what two cores do.
SECONDS: dict[Kind, dict[str, float]] = {
    "text": {"texts": 0.01},
    "denoise": {"forwards": 0.008, "kilotokens": 0.1, "megapairs": 0.5},
    "decode": {"chunks": 0.002, "megapixels": 0.2},
    "mux": {"chunks": 0.0005, "megapixels": 0.0},
    "finish": {"files": 0.01, "megapixels": 0.05},
}


@pytest.fixture(scope="session")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read it only: it is shared by all tests."""
    return known_configs(tmp_path_factory.mktemp("known") / "configs")


@pytest.fixture(scope="session")
def entry(configs: Path) -> ModelEntry:
    return load_model(configs, "toyworld")


@pytest.fixture(scope="session")
def shape(entry: ModelEntry) -> ModelShape:
    return read_shape(entry)


@pytest.fixture
def settings(configs: Path) -> Settings:
    return load_settings(configs)


@pytest.fixture
def plan(configs: Path, settings: Settings) -> Plan:
    return resolve_plan(Request("a red balloon", seed=7), configs, settings).plan


@pytest.fixture
def calibration_file(settings: Settings, entry: ModelEntry, plan: Plan) -> Path:
    return calibration_path(settings.data_dir, "cpu", entry.name, plan)


@pytest.fixture
def calibrated(entry: ModelEntry, shape: ModelShape, plan: Plan, calibration_file: Path) -> Calibration:
    """This device as if it had been measured."""
    calibration = Calibration(
        device="cpu",
        model=entry.name,
        levers=levers_of(plan),
        fingerprint=fingerprint_of(shape.model_hash),
        measured_at=time.time(),
        seconds=SECONDS,
        cold_s=0.3,
        residuals=(0.95, 1.0, 1.05, 1.1),
    )
    calibration.save(calibration_file)
    return calibration


@pytest.fixture
def make_planner(configs: Path, settings: Settings) -> Callable[..., Planner]:
    return lambda folder=configs, device="cpu", cold=False: Planner(folder, settings, device, cold)


@pytest.fixture
def planner(make_planner: Callable[..., Planner], calibrated: Calibration) -> Planner:
    return make_planner()

"""What every test relies on: no network, and no settings of the person who runs them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# Read by the libraries when they are imported, so before any test module is.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
if shutil.which("nvidia-smi") is None:  # Triton's kernels then run in its interpreter
    os.environ["TRITON_INTERPRET"] = "1"

pytest_plugins = ["servers"]

# Machines share their cores: a slow example is no failure.
settings.register_profile("videosvc", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("videosvc")


@pytest.fixture(autouse=True)
def no_outside_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith("VIDEOSVC_"):
            monkeypatch.delenv(name)
    # What this machine learned of its speed is neither to be read nor to be added to.
    monkeypatch.setenv("VIDEOSVC_DATA_DIR", str(tmp_path_factory.mktemp("data")))
    yield


@pytest.fixture
def int8_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU that multiplies int8 quickly; the others are exact, too."""
    import torch

    can = torch.cpu.get_capabilities()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {**can, "avx512_vnni": True})


@pytest.fixture
def poisoned_outputs() -> Iterator[None]:
    """New tensors begin as NaN, or as the largest integer: what a kernel forgets to write cannot pass for right."""
    import torch

    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)

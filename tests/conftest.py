"""What every test relies on: no network, and no settings of the person who runs them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# Read by the libraries when they are imported, so before any test module is.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

# Machines share their cores: a slow example is no failure.
settings.register_profile("videosvc", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("videosvc")


@pytest.fixture(autouse=True)
def no_outside_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith("VIDEOSVC_"):
            monkeypatch.delenv(name)
    yield

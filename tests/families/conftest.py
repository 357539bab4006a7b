from __future__ import annotations

from pathlib import Path

import pytest

from tiny_model import make_tiny_checkpoint


@pytest.fixture(scope="session")
def causal_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_checkpoint(tmp_path_factory.mktemp("causal"))


@pytest.fixture(scope="session")
def wan_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_checkpoint(tmp_path_factory.mktemp("wan"), vae="wan", chunk_partition=(1, 3, 3, 2), shift=5.0)

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def all_poisoned(poisoned_outputs: None) -> None:
    """Of every kernel."""

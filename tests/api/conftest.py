from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from api_service import Api, Start, starter
from servers import RedisServer


@pytest.fixture
def start(tmp_path: Path, redis_url: str) -> Iterator[Start]:
    """Starts services of this test alone: `start(**settings)`."""
    with starter(tmp_path / "data", redis_url) as start:
        yield start


@pytest.fixture
def api(start: Start) -> Api:
    return start()


@pytest.fixture(scope="module")
def shared_api(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer) -> Iterator[Api]:
    """For tests that leave nothing behind which others would see."""
    with starter(tmp_path_factory.mktemp("service"), redis_server.url) as start:
        yield start()

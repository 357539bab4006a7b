"""A service that is stopped ends its streams itself."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_open_streams_end_and_nothing_is_said_of_them(number: signal.Signals, redis_url: str, tmp_path: Path) -> None:
    options = ["--host", "127.0.0.1", "--port", "0", "--data-dir", str(tmp_path), "--no-workers"]
    command = [sys.executable, "-P", "-c", "from videosvc.cli.main import main; main()", "serve", *options]
    with subprocess.Popen(
        command, env={**os.environ, "VIDEOSVC_REDIS_URL": redis_url},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as service:  # fmt: skip
        assert service.stdout is not None
        url = re.search(r"http://\S+", service.stdout.readline())
        assert url
        with httpx.Client(base_url=url[0], timeout=60) as client:
            video = client.post("/v1/videos", json={"prompt": "a red ball"}).json()
            with client.stream("GET", f"/v1/videos/{video['id']}/events") as events:
                lines = events.iter_lines()
                next(lines)
                service.send_signal(number)
                assert not [line for line in lines if line.startswith("event")]  # it ends whole, or this raises
        said = service.communicate(timeout=60)[1]
    assert service.returncode == 0
    assert "Traceback" not in said and "Cancel" not in said

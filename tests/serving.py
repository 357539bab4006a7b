"""A running `videosvc serve`, for tests and benches."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

START_S = 600.0  # torch alone takes long on a busy machine


@dataclass(frozen=True)
class Service:
    url: str
    process: subprocess.Popen[str]

    def wait_until_ready(self) -> None:
        """Until a worker has loaded its models."""
        deadline = time.monotonic() + START_S
        while httpx.get(f"{self.url}/readyz").status_code != 200:
            assert time.monotonic() < deadline, f"not ready after {START_S:g} s"
            time.sleep(0.1)

    def memory_mib(self) -> float:
        """What the API's process holds now, its workers and Redis not counted."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


@contextmanager
def serving(data_dir: Path, *options: str, **variables: str) -> Iterator[Service]:
    """Runs on the CPU. `variables`: settings, in lower case. Its log is `data_dir`/serve.log, each start's after the
    one before."""
    command = [str(Path(sys.executable).with_name("videosvc")), "serve", "--port", "0", "--data-dir", str(data_dir)]
    settings = {"device": "cpu", **variables}
    environment = {**os.environ, **{f"VIDEOSVC_{name.upper()}": value for name, value in settings.items()}}
    with (data_dir / "serve.log").open("a") as log:
        process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
    assert process.stdout is not None
    with process.stdout:
        try:
            late = threading.Timer(START_S, process.kill)
            late.start()
            line = process.stdout.readline()
            late.cancel()
            assert line, (data_dir / "serve.log").read_text()
            yield Service(re.search(r"https?://\S+", line)[0], process)  # type: ignore[index]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)

"""`videosvc serve` as a user starts it, with its own Redis, and the commands that talk to it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from videosvc.cli.local_workers import worker_devices
from videosvc.cli.main import run

VIDEOSVC = [sys.executable, "-P", "-c", "from videosvc.cli.main import main; main()"]


@contextmanager
def serving(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its URL, once it is ready."""
    command = [*VIDEOSVC, "serve", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("videosvc serves on http://127.0.0.1:"), process.communicate()
            yield process, line.split()[-1]
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()


def test_serve_submit_cancel_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving("--no-workers", "--data-dir", str(tmp_path / "data")) as (process, url):
        monkeypatch.setenv("VIDEOSVC_URL", url)
        assert run(["jobs", "submit", "a fish", "--seconds", "1", "--seed", "7"]) == 0
        video_id = capsys.readouterr().out.strip()
        assert run(["jobs", "status", video_id]) == 0
        assert capsys.readouterr().out.startswith(f"{video_id}: queued, 0 %")
        assert run(["jobs", "list"]) == 0
        assert video_id in capsys.readouterr().out
        assert run(["jobs", "download", video_id, "-o", str(tmp_path / "a.mp4")]) == 2
        assert run(["jobs", "cancel", video_id, "--json"]) == 0
        captured = capsys.readouterr()
        assert "queued" in captured.err and json.loads(captured.out)["status"] == "cancelled"
        assert run(["jobs", "watch", video_id]) == 4
        assert "cancelled" in capsys.readouterr().err
        assert run(["jobs", "submit", "a fish", "--max-cost", "1e-9"]) == 3
        assert "--max-cost: " in capsys.readouterr().err
        assert run(["jobs", "submit", ""]) == 2
        assert "PROMPT: " in capsys.readouterr().err
        assert run(["jobs", "status", "../me"]) == 2
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
        assert process.returncode == 0, log
    assert "open mode" in log and "Traceback" not in log
    left = {file.name for file in (tmp_path / "data").iterdir()}
    assert not any(name.startswith("redis-") for name in left), "its Redis cleared up"
    assert run(["jobs", "list"]) == 4
    assert "VIDEOSVC_URL" in capsys.readouterr().err


def test_keys_open_and_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VIDEOSVC_DATA_DIR", str(tmp_path))
    assert run(["keys", "create", "--tenant", "ada", "--name", "laptop"]) == 0
    captured = capsys.readouterr()
    secret, key_id = captured.out.strip(), captured.err.split()[0]
    assert secret.startswith("vsk_")
    assert run(["keys", "list"]) == 0
    shown = capsys.readouterr().out
    assert key_id in shown and "ada" in shown and "laptop" in shown and secret not in shown
    assert secret.encode() not in (tmp_path / "videosvc.db").read_bytes()
    with serving("--no-workers") as (_, url):
        assert httpx.get(f"{url}/v1/me").status_code == 401
        monkeypatch.setenv("VIDEOSVC_URL", url)
        monkeypatch.setenv("VIDEOSVC_API_KEY", secret)
        assert run(["jobs", "list"]) == 0
    assert run(["keys", "revoke", key_id, "--tenant", "bob"]) == 2
    assert run(["keys", "revoke", key_id]) == 0
    assert run(["keys", "revoke", key_id]) == 2
    assert "ID: there is no key" in capsys.readouterr().err
    assert run(["keys", "create", "--tenant", " "]) == 2


def test_limits_of_a_tenant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VIDEOSVC_DATA_DIR", str(tmp_path))
    assert run(["keys", "create", "--tenant", "ada", "--max-queued", "7", "--usd-per-day", "0.5"]) == 0
    secret = capsys.readouterr().out.strip()
    assert run(["keys", "create", "--tenant", "ada", "--max-concurrent", "2"]) == 0  # the others stay
    assert run(["keys", "create", "--tenant", "ada", "--weight", "0"]) == 2
    assert "--weight: 0.0 must be more than 0" in capsys.readouterr().err
    with serving("--no-workers") as (_, url):
        me = httpx.get(f"{url}/v1/me", headers={"Authorization": f"Bearer {secret}"}).json()
    limits = me["limits"]
    assert (limits["max_queued"], limits["max_concurrent"], limits["usd_per_day"]) == (7, 2, 0.5)
    assert me["webhook_secret"].startswith("whsec_")


def test_what_cannot_be_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("HOST", "PORT", "DATA_DIR", "INSECURE"):  # serve sets them for its workers
        monkeypatch.setenv(f"VIDEOSVC_{name}", "")
        monkeypatch.delenv(f"VIDEOSVC_{name}")
    data = ["--data-dir", str(tmp_path), "--no-workers"]
    assert run(["serve", *data, "--port", "0", "--host", "0.0.0.0"]) == 2
    assert "--host: 0.0.0.0 can be reached" in capsys.readouterr().err
    assert run(["serve", *data, "--port", "0", "--host", "127.0.0.1", "--no-embedded"]) == 2
    assert "--no-embedded" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert run(["serve", *data, "--host", "127.0.0.1", "--port", str(taken.getsockname()[1])]) == 2
    assert "--host: cannot listen" in capsys.readouterr().err
    assert run(["serve", "--port", "70000"]) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's leash is Linux's")
def test_its_workers_end_with_it_even_if_it_is_killed(tmp_path: Path) -> None:
    with serving("--data-dir", str(tmp_path)) as (process, _):
        worker = _worker_of(process.pid)
        process.kill()
    with contextlib.suppress(ProcessLookupError):
        ended = os.pidfd_open(worker)
        assert select.select([ended], [], [], 60)[0], "the worker lives on"
        os.close(ended)


def _worker_of(parent: int) -> int:
    """Its first worker's process, once it is there."""
    while True:
        command = ["ps", "-ww", "-o", "pid=", "-o", "args=", "--ppid", str(parent)]
        for line in subprocess.run(command, capture_output=True, text=True).stdout.splitlines():
            if "worker --device cpu" in line:
                return int(line.split()[0])
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("device", "workers", "expected"),
    [("cpu", None, ["cpu"]), ("cuda:1", None, ["cuda:1"]), ("cpu", 2, ["cpu", "cpu"]), ("auto", 0, [])],
)
def test_a_worker_for_each_device(device: str, workers: int | None, expected: list[str]) -> None:
    assert worker_devices(device, workers) == expected

"""`videosvc serve` as a user starts it, with its own Redis, and the commands that talk to it."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image

from eventually import eventually
from serving import START_S, serving
from videosvc.cli.local_workers import worker_devices, worker_variables
from videosvc.cli.main import run


def test_serve_submit_cancel_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with serving(data, "--no-workers") as service:
        monkeypatch.setenv("VIDEOSVC_URL", service.url)
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
        with_key = ["jobs", "submit", "a fish", "--negative-prompt", "a boat", "--idempotency-key", "order-7"]
        assert run(with_key) == run(with_key) == 0
        first, second = capsys.readouterr().out.split()
        assert first == second != video_id
        assert run(["jobs", "submit", "a cat", "--idempotency-key", "order-7"]) == 2
        capsys.readouterr()
        assert run(["jobs", "quote", "a fish", "--seconds", "1", "--tier", "batch", "--json"]) == 0
        quote = json.loads(capsys.readouterr().out)
        assert run(["jobs", "submit", "a fish", "--quote-id", quote["id"], "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["quote"] == quote
        assert run(["jobs", "submit", "a fish", "--quote-id", "quote_none"]) == 2
        assert "--quote-id: there is no quote" in capsys.readouterr().err
        assert run(["jobs", "submit", "a fish", "--max-cost", "1e-9"]) == 3
        assert "--max-cost: " in capsys.readouterr().err
        assert run(["jobs", "quote", "a fish", "--deadline", "0.0001"]) == 2
        assert "--deadline: " in capsys.readouterr().err
        Image.new("RGB", (90, 60), "red").save(tmp_path / "a.png")
        assert run(["jobs", "submit", "a fish", "--seconds", "1", "--input-reference", str(tmp_path / "a.png")]) == 0
        assert list((data / "artifacts").rglob("input_reference.png")) != []
        capsys.readouterr()
        assert run(["jobs", "submit", "a fish", "--input-reference", str(tmp_path)]) == 2
        assert "--input-reference: " in capsys.readouterr().err
        assert run(["jobs", "submit", ""]) == 2
        assert "PROMPT: " in capsys.readouterr().err
        assert run(["jobs", "status", "../me"]) == 2
    log = (data / "serve.log").read_text()
    assert service.process.returncode == 0, log
    assert "open mode" in log and "Traceback" not in log
    assert list(data.glob("redis-*")) == [], "its Redis cleared up"
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
    with serving(tmp_path, "--no-workers") as service:
        assert httpx.get(f"{service.url}/v1/me").status_code == 401
        monkeypatch.setenv("VIDEOSVC_URL", service.url)
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
    with serving(tmp_path, "--no-workers") as service:
        me = httpx.get(f"{service.url}/v1/me", headers={"Authorization": f"Bearer {secret}"}).json()
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
    assert "--port: cannot listen" in capsys.readouterr().err
    assert run(["serve", "--port", "70000"]) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's leash is Linux's")
def test_what_is_killed_is_started_again_and_no_job_is_lost(tmp_path: Path) -> None:
    """First the worker, then all of `videosvc serve`, each while it runs a job."""
    brisk = {"lease_s": "3", "drain_s": "0"}  # what is told to stop gives its job back at the next step
    with serving(tmp_path, **brisk) as service, httpx.Client(base_url=service.url, timeout=60) as client:
        service.wait_until_ready()
        running = submit(client, LONG)
        until_it_computes(client, running)
        worker_of(service.process.pid).kill()
        assert until_ended(client, running)["attempts"] == 2
        running, queued = submit(client, LONG), submit(client, SHORT)
        until_it_computes(client, running)
        others = psutil.Process(service.process.pid).children(recursive=True)
        assert any("redis" in other.name() or "valkey" in other.name() for other in others)
        service.process.kill()
        _, alive = psutil.wait_procs(others, timeout=60)
        assert alive == [], "no Redis and no worker lives on"
    eventually(lambda: list(tmp_path.glob("redis-*")) == [])
    with serving(tmp_path, **brisk) as service, httpx.Client(base_url=service.url, timeout=60) as client:
        assert until_ended(client, running)["attempts"] == 2
        assert until_ended(client, queued)["attempts"] == 1
        receipts = [client.get(f"/v1/videos/{job}").json()["receipt"] for job in (running, queued)]
        usage = client.get("/v1/usage").json()["total"]
        assert usage["videos"] == 3 and usage["charged_usd"] > sum(receipt["charged_usd"] for receipt in receipts) > 0


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's leash is Linux's")
def test_who_ends_without_a_worker_has_a_receipt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One job whose workers are killed, each as it computes, and one that is cancelled behind it."""
    with serving(tmp_path, lease_s="3") as service, httpx.Client(base_url=service.url, timeout=60) as client:
        service.wait_until_ready()
        running, waiting = submit(client, LONG), submit(client, SHORT)
        assert client.post(f"/v1/videos/{waiting}/cancel").json()["receipt"]["wasted_compute_seconds"] == 0
        until_it_computes(client, running)
        for attempt in (1, 2, 3):

            def is_at_it(attempt: int = attempt) -> bool:
                video = client.get(f"/v1/videos/{running}").json()
                return bool(video["attempts"] == attempt and video["status"] == "in_progress")

            eventually(is_at_it, START_S)
            worker_of(service.process.pid).kill()
        lost = until_ended(client, running, "failed")
        receipt = lost["receipt"]
        assert lost["error"]["code"] == "worker_lost" and receipt["device"] == "cpu"
        assert receipt["wasted_compute_seconds"] > 0 == receipt["charged_usd"] == receipt["compute_seconds"]
        assert receipt["quoted_usd"] == lost["quote"]["price_usd"]
        assert client.get("/v1/usage").json()["total"] == {"videos": 2, "compute_seconds": 0.0, "charged_usd": 0.0}
        monkeypatch.setenv("VIDEOSVC_URL", service.url)
        for video in (running, waiting):
            assert run(["jobs", "status", video]) == 0
            assert "charged 0.000000000 USD" in capsys.readouterr().out


SHORT = {"prompt": "a red ball", "preset": "draft", "seconds": 1}
LONG = {"prompt": "a red ball", "preset": "reference", "size": "128x128", "seconds": 4}


def submit(client: httpx.Client, body: dict[str, object]) -> str:
    return str(client.post("/v1/videos", json=body).json()["id"])


def until_it_computes(client: httpx.Client, job: str) -> None:
    eventually(lambda: client.get(f"/v1/videos/{job}").json()["progress"] > 0, START_S)


def until_ended(client: httpx.Client, job: str, status: str = "completed") -> dict[str, Any]:
    """The video, which must have this status."""
    seen: list[dict[str, Any]] = []

    def has_ended() -> bool:
        seen.append(client.get(f"/v1/videos/{job}").json())
        return seen[-1]["status"] not in ("queued", "in_progress")

    eventually(has_ended, START_S)
    assert seen[-1]["status"] == status, seen[-1]["error"]
    return seen[-1]


def worker_of(parent: int) -> psutil.Process:
    (worker,) = (child for child in psutil.Process(parent).children() if "worker" in child.cmdline())
    return worker


@pytest.mark.parametrize(
    ("device", "workers", "expected"),
    [("cpu", None, ["cpu"]), ("cuda:1", None, ["cuda:1"]), ("cpu", 2, ["cpu", "cpu"]), ("auto", 0, [])],
)
def test_a_worker_for_each_device(device: str, workers: int | None, expected: list[str]) -> None:
    assert worker_devices(device, workers) == expected


def test_several_workers_on_one_cpu_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """They do not tie themselves to the same ones, and have no more threads together than there are."""
    names = ("OMP_PROC_BIND", "OMP_NUM_THREADS")
    for name in names:
        monkeypatch.delenv(name, raising=False)

    def shared(*devices: str) -> list[str | None]:
        return [worker_variables(devices, {}).get(name) for name in names]

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    assert shared("cpu") == shared("cuda:0", "cpu") == [None, None]
    assert shared("cpu", "cpu") == ["false", "3"]
    assert shared(*7 * ["cpu"]) == ["false", "1"]
    for name, value in zip(names, ("spread", "5"), strict=True):
        monkeypatch.setenv(name, value)
    assert shared("cpu", "cpu") == ["spread", "5"]

"""The whole service, once: `make demo`.

Starts API, Redis and a worker on free loopback ports with a data folder of their own, submits a job over HTTP, shows
its progress, downloads the clip, prints the receipt, stops everything it started.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

PROMPT = "a red balloon floats up over green hills"
SERVES_S = 120.0  # a cold disk takes its time to load torch
LOADED_S = 180.0  # and so does a worker to load its model
console = Console()


@contextmanager
def service(data_dir: Path) -> Iterator[str]:
    """Runs `videosvc serve`; yields its URL once it answers."""
    command = [str(Path(sys.executable).with_name("videosvc")), "serve", "--port", "0", "--data-dir", str(data_dir)]
    log = (data_dir / "serve.log").open("w+")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    late = threading.Timer(SERVES_S, process.kill)
    late.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            ready = re.search(r"https?://\S+", line)
            if ready:
                late.cancel()
                yield ready[0].rstrip("/")
                return
        log.seek(0)
        sys.exit(f"the service did not start:\n{log.read()}")
    finally:
        late.cancel()
        process.send_signal(signal.SIGTERM)
        process.wait()
        log.close()


def wait_for_worker(url: str) -> None:
    """Until one has loaded its model: before, nobody may know what device to price for."""
    deadline = time.monotonic() + LOADED_S
    while not httpx.get(f"{url}/readyz", timeout=30).is_success:
        if time.monotonic() > deadline:
            sys.exit(f"no worker was ready in {LOADED_S:.0f} s; `videosvc doctor` may say why")
        time.sleep(0.2)


def follow(client: httpx.Client, video_id: str) -> dict[str, Any]:
    """Shows the job's events as a bar until it ends; returns the finished Video."""
    label, share = TextColumn("{task.description:<12}"), TextColumn("{task.percentage:>3.0f} %")
    columns = (label, BarColumn(), share, TimeElapsedColumn())
    with Progress(*columns, console=console) as bar, client.stream("GET", f"/videos/{video_id}/events") as events:
        task = bar.add_task("queued", total=100)
        for line in events.iter_lines():  # a ping every few seconds, if there is nothing to tell
            if bar.tasks[task].description == "queued" and (bar.tasks[task].elapsed or 0) > LOADED_S:
                sys.exit(f"no worker took the job in {LOADED_S:.0f} s")
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
                bar.update(task, description="in progress" if kind in ("plan", "progress", "preview") else kind)
            elif line.startswith("data: ") and kind == "progress":
                bar.update(task, completed=json.loads(line.removeprefix("data: "))["progress"])
            elif line.startswith("data: ") and kind == "completed":
                bar.update(task, completed=100)
    video: dict[str, Any] = client.get(f"/videos/{video_id}").raise_for_status().json()
    return video


def print_receipt(video: dict[str, Any]) -> None:
    receipt = video["receipt"]
    stages = ", ".join(f"{name} {seconds:.2f}" for name, seconds in receipt["by_stage"].items())
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in (
        ("clip", f"{video['seconds']} s of {video['size']}, {video['plan']['steps']} steps, seed {video['seed']}"),
        ("compute", f"{receipt['compute_seconds']:.2f} s on {receipt['device']} ({stages})"),
        ("quoted", f"{float(receipt['quoted_usd']):.7f} USD, the most it could have cost"),
        ("charged", f"{float(receipt['charged_usd']):.7f} USD"),
        ("price", f"{float(receipt['price_per_second_usd']):.7f} USD a second of video"),
        ("energy", f"{receipt['energy_joules']:.0f} J ({receipt['energy_source']})"),
    ):
        table.add_row(name, value)
    for lever in receipt["levers"]:
        table.add_row("saved", f"{lever['saved_compute_seconds']:.2f} s of compute by {lever['name']}")
    console.print(table)


def main(output: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="videosvc-demo-") as folder, service(Path(folder)) as url:
        console.print(f"service at {url}; page at {url}/, API documentation at {url}/docs")
        with console.status("a worker loads its model"):
            wait_for_worker(url)
        with httpx.Client(base_url=f"{url}/v1", timeout=30) as client:
            body = {"prompt": PROMPT, "seconds": 2, "seed": 7, "max_cost_usd": 0.01}
            created = client.post("/videos", json=body).raise_for_status().json()
            video = follow(client, created["id"])
            if video["status"] != "completed":
                sys.exit(f"{video['status']}: {video['error']}")
            temporary = output.with_name(f".{output.name}.part")
            temporary.write_bytes(client.get(f"/videos/{video['id']}/content").raise_for_status().content)
            os.replace(temporary, output)
        console.print(f"{output}: {PROMPT}")
        print_receipt(video)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except httpx.HTTPError as error:
        sys.exit(f"the service did not answer as it should: {(str(error) or type(error).__name__).splitlines()[0]}")

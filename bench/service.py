"""How fast the service answers while its worker is busy: `python -m bench.service`.

Starts `videosvc serve` with a Redis and a worker of its own, on SQLite and then on PostgreSQL; both get the same load,
in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from bench.load import latencies, longest_delay
from bench.report import print_table, write_json
from tests.known_configs import known_configs
from tests.servers import new_database, running_postgres
from tests.serving import Service, serving
from videosvc.api.auth import OPEN_TENANT
from videosvc.bench.machine import describe
from videosvc.bench.measure import Measure, Samples
from videosvc_queue.store import Store
from videosvc_queue.tenants import TenantLimits

CREATES_PER_S, POLLS_PER_S, STREAMS = 50.0, 300.0, 1000
LOAD_S = 10.0
BODY = {"prompt": "a red balloon floats up over green hills", "preset": "draft", "seed": 7}
LONG = {"prompt": BODY["prompt"], "preset": "quality", "seconds": 8, "seed": 7}
LIMITS = TenantLimits(max_queued=100_000, per_minute=100_000)

# What the median is held to, on two cores that also run the worker and the bench itself.
AT_MOST = {
    "create, p99": 0.050,
    "status poll, p99": 0.020,
    "submit to first step, idle warm worker": 0.150,
    "control plane's share of a job's wall time": 0.03,
    "memory of 1000 open event streams": 200.0,
}


async def create(session: aiohttp.ClientSession, body: dict[str, Any]) -> dict[str, Any]:
    async with session.post("/v1/videos", json=body) as answer:
        answer.raise_for_status()
        video: dict[str, Any] = await answer.json()
        return video


async def follow(session: aiohttp.ClientSession, video_id: str) -> None:
    """Returns at its end."""
    async with session.get(f"/v1/videos/{video_id}/events") as events:
        async for _ in events.content:
            pass


async def wait_for(session: aiohttp.ClientSession, video_id: str) -> dict[str, Any]:
    """The Video at its end."""
    await follow(session, video_id)
    async with session.get(f"/v1/videos/{video_id}") as answer:
        video: dict[str, Any] = await answer.json()
        return video


async def first_step_s(session: aiohttp.ClientSession) -> float:
    """From sending a job to word of its first step."""
    start = time.perf_counter()
    video = await create(session, BODY)
    async with session.get(f"/v1/videos/{video['id']}/events") as events:
        async for line in events.content:
            if line.strip() == b"event: progress":
                break
    seconds = time.perf_counter() - start
    await wait_for(session, video["id"])
    return seconds


async def control_share(session: aiohttp.ClientSession) -> float:
    """Of a long job's time from submit to end, what was no compute."""
    start = time.perf_counter()
    video = await create(session, LONG)
    await follow(session, video["id"])
    wall = time.perf_counter() - start
    video = await wait_for(session, video["id"])
    return float(1 - video["receipt"]["compute_seconds"] / wall)


async def streams_mib(service: Service, session: aiohttp.ClientSession, video_id: str) -> float:
    """What the API's memory grows to with 1000 streams open, its own start included."""
    opened = [await session.get(f"/v1/videos/{video_id}/events") for _ in range(STREAMS)]
    for answer in opened:
        await answer.content.readany()  # the headers' keep-alive: the stream stands
    mib = service.memory_mib()
    for answer in opened:
        answer.close()
    return mib


async def measure(service: Service, database: str, samples: Samples) -> None:
    connector = aiohttp.TCPConnector(limit=STREAMS + 8)
    async with aiohttp.ClientSession(service.url, connector=connector, timeout=aiohttp.ClientTimeout(300)) as session:
        await wait_for(session, (await create(session, BODY))["id"])  # the model is warm
        for _ in range(10):
            samples[f"{database}: submit to first step, idle warm worker", "s"].append(await first_step_s(session))
        for _ in range(3):
            samples[f"{database}: control plane's share of a job's wall time", ""].append(await control_share(session))

        made: list[str] = []

        async def send_create(client: aiohttp.ClientSession, number: int) -> None:
            async with client.post("/v1/videos", json=BODY) as answer:
                answer.raise_for_status()
                made.append((await answer.json())["id"])

        async def send_poll(client: aiohttp.ClientSession, number: int) -> None:
            async with client.get(f"/v1/videos/{made[number % len(made)]}") as answer:
                answer.raise_for_status()
                await answer.read()

        creates = await latencies(service.url, send_create, CREATES_PER_S, LOAD_S)
        samples[f"{database}: create, p50", "s"].append(statistics.median(creates))
        samples[f"{database}: create, p99", "s"].append(float(np.percentile(creates, 99)))
        polls = await latencies(service.url, send_poll, POLLS_PER_S, LOAD_S)
        samples[f"{database}: status poll, p50", "s"].append(statistics.median(polls))
        samples[f"{database}: status poll, p99", "s"].append(float(np.percentile(polls, 99)))
        mib = await streams_mib(service, session, made[-1])  # the last in a long queue
        samples[f"{database}: memory of {STREAMS} open event streams", "MiB"].append(mib)


def one_round(database: str, url: str | None, samples: Samples) -> None:
    """`url` None: SQLite in the service's data folder."""
    with tempfile.TemporaryDirectory(prefix="videosvc-bench-") as folder:
        url = url or f"sqlite:///{folder}/videosvc.db"
        with Store(url) as store:
            store.migrate()
            store.upsert_tenant(OPEN_TENANT, LIMITS)
        configs = known_configs(Path(folder, "configs"))  # the same jobs, whatever the shipped presets are
        with serving(Path(folder), database_url=url, config_dir=str(configs)) as service:
            service.wait_until_ready()
            asyncio.run(measure(service, database, samples))


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.service", description="The bench of the service.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("bench/results/service-cpu.json"))
    arguments = parser.parse_args(words)
    about = describe("cpu")
    samples: Samples = defaultdict(list)
    with running_postgres() as server:
        for turn in range(arguments.rounds):
            samples[f"machine alone: longest delay of a timer in {LOAD_S} s", "s"].append(longest_delay(LOAD_S))
            with new_database(server) as postgres:
                for database, url in (("SQLite", None), ("PostgreSQL", postgres)):
                    one_round(database, url, samples)
            print(f"round {turn + 1} of {arguments.rounds} is done", flush=True)
    measures = [
        Measure(name, unit, tuple(values), AT_MOST.get(name.partition(": ")[2]))
        for (name, unit), values in samples.items()
    ]
    print_table(f"service, {about['cpu']}", measures)
    write_json(arguments.output, {**about, "creates_per_s": CREATES_PER_S, "polls_per_s": POLLS_PER_S}, measures)


if __name__ == "__main__":
    main()

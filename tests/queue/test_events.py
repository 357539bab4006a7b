from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
import redis

from videosvc_queue.events import MAX_EVENTS, Event, EventBus
from videosvc_queue.fanout import READERS, Fanout
from videosvc_queue.redis_server import EmbeddedRedis

T = TypeVar("T")


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(coroutine, 30))


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events]


def test_reads_in_order_and_resumes(bus: EventBus) -> None:
    for number in range(3):
        bus.publish("a", "progress", {"progress": number, "note": "ünïcode\n"})
    bus.publish("b", "completed", {})
    events = bus.read("a")
    assert [event.data["progress"] for event in events] == [0, 1, 2]
    assert events[0].data["note"] == "ünïcode\n"
    assert bus.read("a", after=events[0].id) == events[1:]
    assert bus.read("a", after=events[-1].id) == []
    assert bus.read("c") == []


@pytest.mark.parametrize("after", ["", "x", "1-2-3", "-", "+", "9" * 30 + "-1", "1-1\n", "(1-1"])
def test_an_id_that_is_none_reads_from_the_start(bus: EventBus, after: str) -> None:
    bus.publish("a", "plan", {})
    assert kinds(bus.read("a", after=after)) == ["plan"]


def test_what_is_kept_is_bounded(bus: EventBus, client: redis.Redis) -> None:
    for _ in range(MAX_EVENTS + 10):
        bus.publish("a", "progress", {})
    bus.preview("a", b"jpeg")
    assert len(bus.read("a")) == MAX_EVENTS
    assert all(client.ttl(key) > 0 for key in client.scan_iter())


def test_preview_is_the_newest(bus: EventBus) -> None:
    assert bus.get_preview("a") is None
    bus.preview("a", b"\xff\xd8one")
    bus.preview("a", b"\xff\xd8two")
    assert bus.get_preview("a") == b"\xff\xd8two"


def test_without_redis_writing_is_silent_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with EmbeddedRedis(tmp_path) as server:
        bus = EventBus(server.url)
        bus.publish("a", "plan", {})
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            bus.publish("a", "progress", {})
            bus.preview("a", b"")
    assert len(caplog.records) == 1
    with pytest.raises(redis.RedisError):
        bus.read("a")
    with pytest.raises(redis.RedisError):
        bus.ping()
    bus.close()


def test_a_hung_redis_costs_a_job_one_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("videosvc_queue.wire.TIMEOUT_S", 0.1)
    with EmbeddedRedis(tmp_path) as server:
        bus = EventBus(server.url)
        with redis.Redis.from_url(server.url) as client:
            process = psutil.Process(client.info("server")["process_id"])
        process.send_signal(signal.SIGSTOP)
        for _ in range(2000):  # 200 s of timeouts if each were tried
            bus.publish("a", "progress", {})
        process.send_signal(signal.SIGCONT)
        bus.ping()
        assert bus.read("a") == []
        bus.close()


async def first(follower: AsyncIterator[list[Event]], kind: str) -> Event:
    async for events in follower:
        for event in events:
            if event.kind == kind:
                return event
    raise AssertionError


def test_followers_are_woken_over_few_connections(redis_url: str, bus: EventBus, client: redis.Redis) -> None:
    before = len(client.client_list())  # other tests' may linger

    async def follow_many() -> list[Event]:
        async with Fanout(redis_url) as fanout:
            followers = [asyncio.create_task(first(fanout.follow(f"job{n}"), "completed")) for n in range(300)]
            await asyncio.sleep(0)
            for number in range(300):
                await asyncio.to_thread(bus.publish, f"job{number}", "progress", {})
                await asyncio.to_thread(bus.publish, f"job{number}", "completed", {"n": number})
            events = await asyncio.gather(*followers)
            assert len(client.client_list()) <= before + READERS + 2  # the listener and the bus
            return events

    assert [event.data["n"] for event in run(follow_many())] == list(range(300))


def test_a_follower_resumes_after_an_id(redis_url: str, bus: EventBus) -> None:
    for kind in ("plan", "progress", "completed"):
        bus.publish("a", kind, {})
    after = bus.read("a")[0].id

    async def follow() -> list[Event]:
        async with Fanout(redis_url) as fanout:
            async for events in fanout.follow("a", after=after):
                return events
        raise AssertionError

    assert kinds(run(follow())) == ["progress", "completed"]


def test_a_follower_hears_of_silence(redis_url: str) -> None:
    async def follow() -> list[list[Event]]:
        batches: list[list[Event]] = []
        async with Fanout(redis_url) as fanout:
            async for events in fanout.follow("nobody", idle_s=0.01):
                batches.append(events)
                if len(batches) == 3:
                    return batches
        raise AssertionError

    assert run(follow()) == [[], [], []]


def test_a_follower_lives_through_a_restart_of_redis(tmp_path: Path) -> None:
    async def follow(server: EmbeddedRedis, bus: EventBus) -> Event:
        with redis.Redis.from_url(server.url) as client:
            process = psutil.Process(client.info("server")["process_id"])
        async with Fanout(server.url) as fanout:
            follower = asyncio.create_task(first(fanout.follow("a"), "completed"))
            process.kill()
            while not follower.done():  # what is published while nobody listens is lost, and may be
                await asyncio.to_thread(bus.publish, "a", "completed", {})
                await asyncio.sleep(0.05)
            return follower.result()

    with EmbeddedRedis(tmp_path) as server:
        bus = EventBus(server.url)
        assert run(follow(server, bus)).kind == "completed"
        bus.close()

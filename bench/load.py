"""Requests at a set rate, whether or not earlier ones have been answered, as real clients send them."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable

import aiohttp

Send = Callable[[aiohttp.ClientSession, int], Awaitable[None]]


async def latencies(url: str, send: Send, per_second: float, seconds: float) -> list[float]:
    """Seconds from when each request was due to its answer's end; waiting for a free connection counts.

    `send(session, number)` makes one request and raises if its answer is not what it should be.
    """
    loop = asyncio.get_running_loop()
    took: list[float] = []

    async def one(session: aiohttp.ClientSession, number: int, due: float) -> None:
        await send(session, number)
        took.append(loop.time() - due)

    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=32)) as session:
        await send(session, -1)  # opens a connection
        gc.collect()
        gc.freeze()  # what collecting takes here is not the service's
        start = loop.time()
        async with asyncio.TaskGroup() as group:
            for number in range(int(per_second * seconds)):
                due = start + number / per_second
                await asyncio.sleep(due - loop.time())
                group.create_task(one(session, number, due))
    return took


def longest_delay(seconds: float) -> float:
    """Seconds that a timer was late at most, in so many, while nothing else runs: no service here is sure to answer
    sooner, as the host's other guests have the cores meanwhile."""
    end, longest = time.perf_counter() + seconds, 0.0
    while (began := time.perf_counter()) < end:
        time.sleep(0.001)
        longest = max(longest, time.perf_counter() - began - 0.001)
    return longest

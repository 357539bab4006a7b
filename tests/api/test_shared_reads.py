"""Status polls that are read together, each with its own answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection
from decimal import Decimal
from typing import cast

import pytest
from sqlalchemy.exc import OperationalError

from videosvc.api import shared_reads
from videosvc.api.shared_reads import KEPT_S, Seen, SharedReads
from videosvc_queue.job import Job, NewJob
from videosvc_queue.standing import Standing
from videosvc_queue.store import Store
from videosvc_queue.tenants import TenantLimits
from videosvc_queue.tiers import Tier


class Gated:
    """A store whose reads wait until they are let through."""

    def __init__(self, store: Store) -> None:
        self.gate = threading.Event()
        self.reads: list[set[str]] = []
        self.standings = 0
        self.away = False
        self._store = store

    def find(self, job_ids: Collection[str]) -> list[Job]:
        assert self.gate.wait(30)
        self.reads.append(set(job_ids))
        if self.away:
            raise OperationalError("SELECT", {}, Exception("gone"))
        return self._store.find(job_ids)

    def standing(self) -> Standing:
        self.standings += 1
        return self._store.standing()


@pytest.fixture
def gated(store: Store) -> Gated:
    """With five jobs in it, each 10 s of compute."""
    for number in range(5):
        job = NewJob(
            id=f"job_{number}", tenant="ann", tier=Tier.INTERACTIVE, route="toy", payload={}, predicted_s=10.0,
            hold_usd=Decimal("0.03"), max_run_s=60.0,
        )  # fmt: skip
        store.submit(job, TenantLimits())
    return Gated(store)


def ids(*numbers: int) -> list[str]:
    return [f"job_{number}" for number in numbers]


async def begun(reads: SharedReads, job_ids: list[str]) -> list[asyncio.Task[Seen | None]]:
    """Polls that have asked, and wait."""
    polls = [asyncio.create_task(reads.look(job_id)) for job_id in job_ids]
    await asyncio.sleep(0)
    return polls


def test_polls_during_a_read_share_the_next_one(gated: Gated, store: Store) -> None:
    async def answers() -> list[Seen | None]:
        reads = SharedReads(cast(Store, gated))
        polls = await begun(reads, ids(0))
        polls += await begun(reads, ids(1, 2, 3, 1, 4, 99))
        gated.gate.set()
        return await asyncio.gather(*polls)

    found = asyncio.run(answers())
    assert gated.reads == [set(ids(0)), set(ids(1, 2, 3, 4, 99))]
    assert found[-1] is None
    for seen, job_id in zip(found[:-1], ids(0, 1, 2, 3, 1, 4), strict=True):
        job = store.get(job_id)
        assert seen is not None and job is not None
        assert seen == (job, store.ahead(job))


def test_a_read_that_fails_fails_all_who_wait_by_then_and_nobody_later(gated: Gated) -> None:
    async def answers() -> tuple[list[Seen | BaseException | None], Seen | None]:
        reads = SharedReads(cast(Store, gated))
        gated.away = True
        polls = await begun(reads, ids(0))
        polls += await begun(reads, ids(1, 2))  # for the next read, which is not tried
        gated.gate.set()
        failed = await asyncio.gather(*polls, return_exceptions=True)
        gated.away = False
        return failed, await reads.look("job_0")

    failed, later = asyncio.run(answers())
    assert [type(error) for error in failed] == 3 * [OperationalError]
    assert later is not None and gated.reads == [set(ids(0)), set(ids(0))]


def test_whoever_leaves_takes_no_answer_from_others(gated: Gated) -> None:
    async def answer() -> Seen | None:
        reads = SharedReads(cast(Store, gated))
        leaving, staying = await begun(reads, ids(0, 0))
        leaving.cancel()
        gated.gate.set()
        return await staying

    seen = asyncio.run(answer())
    assert seen is not None and seen[0].id == "job_0"


def test_the_queue_is_read_again_when_some_time_has_passed(
    gated: Gated, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answers() -> list[Seen | None]:
        reads = SharedReads(cast(Store, gated))
        gated.gate.set()
        monkeypatch.setattr(shared_reads, "monotonic", lambda: 1000.0)
        first = [await reads.look(job_id) for job_id in ids(4, 3, 4)]
        assert gated.standings == 1
        store.cancel("job_0", "ann")
        monkeypatch.setattr(shared_reads, "monotonic", lambda: 1000.0 + 2 * KEPT_S[0])
        return [*first, await reads.look("job_4")]

    found = asyncio.run(answers())
    assert [seen and seen[1] and seen[1].jobs for seen in found] == [4, 3, 4, 3]
    assert gated.standings == 2

"""Status polls read together: those that come while a read is under way share the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

from videosvc_queue.job import Ahead, Job, Status
from videosvc_queue.standing import Standing
from videosvc_queue.store import Store

Seen = tuple[Job, Ahead | None]  # what stands before it, if it is queued

MOST = 100  # jobs of one read
KEPT_S = (0.25, 2.0)  # for so long it counts how the queue stood, and at most
SHARE = 0.1  # of the time that reading it may take, within these bounds


class SharedReads:
    """For the event loop's thread alone.

    With a thread for each poll, threads that contend for the interpreter cost more than what they do: 2.2 ms of CPU for
    each of twenty polls at once where one by one they took 1.3. What stands before a queued job is as of a moment ago:
    a look at the queue for each poll took 0.2 to 0.4 ms.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[tuple[str, asyncio.Future[Seen | None]]] = []
        self._reading: asyncio.Task[None] | None = None
        # Its own: polls do not wait behind routes that take long, and the way there is half of that to a shared one's.
        self._thread = ThreadPoolExecutor(1, "shared-reads")
        self._standing: Standing | None = None
        self._kept_until = float("-inf")

    async def look(self, job_id: str) -> Seen | None:
        """None: there is no such job. Raises sqlalchemy.exc.SQLAlchemyError."""
        answer: asyncio.Future[Seen | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((job_id, answer))
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        return await answer

    async def _read(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            try:
                ids = {job_id for job_id, _ in batch}
                found = await asyncio.get_running_loop().run_in_executor(self._thread, self._find, ids)
            except Exception as error:  # of all that wait by now: the next read would keep them as long, and fail too
                failed, self._waiting = [*batch, *self._waiting], []
                for _, answer in failed:
                    if not answer.done():  # whoever asked has gone
                        answer.set_exception(error)
            else:
                for job_id, answer in batch:
                    if not answer.done():
                        answer.set_result(found.get(job_id))

    def _find(self, job_ids: Collection[str]) -> dict[str, Seen]:
        jobs = self._store.find(job_ids)
        return {job.id: (job, self._stood().ahead(job) if job.status is Status.QUEUED else None) for job in jobs}

    def _stood(self) -> Standing:
        began = monotonic()
        if self._standing is None or began > self._kept_until:
            self._standing = self._store.standing()
            now = monotonic()
            least, most = KEPT_S
            self._kept_until = now + min(max(least, (now - began) / SHARE), most)
        return self._standing

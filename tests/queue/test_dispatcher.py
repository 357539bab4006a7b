from __future__ import annotations

from collections.abc import Callable, Collection

import pytest
import redis

from eventually import eventually
from servers import RedisServer
from videosvc_queue.celery_app import make_celery
from videosvc_queue.dispatcher import Dispatcher
from videosvc_queue.events import EventBus
from videosvc_queue.job import Job, NewJob
from videosvc_queue.outbox import Ring
from videosvc_queue.store import Store
from videosvc_queue.tenants import TenantLimits


def bells(redis_url: str) -> int:
    with redis.Redis.from_url(redis_url) as client:
        return client.llen("videosvc.toy")


def test_rings_once_for_each_job(store: Store, redis_url: str, bus: EventBus, new_job: Callable[..., NewJob]) -> None:
    for _ in range(105):  # more than one handful
        store.submit(new_job(), TenantLimits(max_queued=1000))
    dispatcher = Dispatcher(store, make_celery(redis_url), bus)
    dispatcher.sweep()
    dispatcher.sweep()
    assert bells(redis_url) == 105


def test_the_bell_of_a_job_that_was_submitted_here_rings_at_once_and_once(
    store: Store, redis_url: str, bus: EventBus, new_job: Callable[..., NewJob]
) -> None:
    dispatcher = Dispatcher(store, make_celery(redis_url), bus, every_s=3600)
    dispatcher.submitted(store.submit(new_job(), TenantLimits())[0])
    with dispatcher:
        eventually(lambda: bells(redis_url) == 1)
    assert store.due_outbox() == []
    assert bells(redis_url) == 1


def test_a_running_dispatcher_rings_at_once(
    store: Store, redis_url: str, bus: EventBus, new_job: Callable[..., NewJob]
) -> None:
    with Dispatcher(store, make_celery(redis_url), bus, every_s=3600) as dispatcher:
        dispatcher.submitted(store.submit(new_job(), TenantLimits())[0])
        eventually(lambda: bells(redis_url) >= 1)  # twice if its first sweep found it as well, which does no harm


def test_bells_of_jobs_that_come_quickly_are_marked_together_and_soon(
    store: Store, redis_url: str, bus: EventBus, new_job: Callable[..., NewJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    marks: list[int] = []
    mark_rung = store.mark_rung

    def mark(jobs: Collection[Job]) -> None:
        mark_rung(jobs)
        marks.append(len(jobs))

    monkeypatch.setattr(store, "mark_rung", mark)
    with Dispatcher(store, make_celery(redis_url), bus, every_s=3600) as dispatcher:
        for number in range(4):
            dispatcher.submitted(store.submit(new_job(), TenantLimits())[0])
            eventually(lambda number=number: bells(redis_url) > number)
        eventually(lambda: sum(marks) == 4)
    assert store.due_outbox() == []


def test_sweeps_up_the_bells_of_others(
    store: Store, redis_url: str, bus: EventBus, new_job: Callable[..., NewJob]
) -> None:
    with Dispatcher(store, make_celery(redis_url), bus, every_s=0.05):
        store.submit(new_job(), TenantLimits())
        eventually(lambda: bells(redis_url) == 1)


def test_jobs_are_taken_while_redis_is_down_and_rung_for_when_it_is_back(
    sqlite_url: str, own_redis: RedisServer, new_job: Callable[..., NewJob],
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    own_redis.kill()
    with Store(sqlite_url) as store:
        store.migrate()
        due, found = store.due_outbox, [0]

        def due_soon_again() -> list[Ring]:
            bells = due(hold_s=0.1)
            found.append(len(bells))
            return bells

        monkeypatch.setattr(store, "due_outbox", due_soon_again)
        with Dispatcher(store, make_celery(own_redis.url), EventBus(own_redis.url), every_s=0.02):
            store.submit(new_job(), TenantLimits())
            eventually(lambda: "fails, and goes on trying" in caplog.text)
            # A sweep that finds nothing, as the bells that failed are not due yet, is no sign of Redis.
            eventually(lambda: found.count(1) >= 3 and 0 in found[found.index(1) : -1])
            assert "works again" not in caplog.text
            own_redis.start()
            eventually(lambda: bells(own_redis.url) == 1)
            eventually(lambda: "works again" in caplog.text)
    assert caplog.text.count("fails, and goes on trying") == caplog.text.count("works again") == 1


def test_replicas_share_the_bells(store: Store, redis_url: str, bus: EventBus, new_job: Callable[..., NewJob]) -> None:
    for _ in range(30):
        store.submit(new_job(), TenantLimits())
    replicas = [Dispatcher(store, make_celery(redis_url), bus, every_s=0.01) for _ in range(3)]
    for replica in replicas:
        replica.__enter__()
    eventually(lambda: bells(redis_url) == 30)
    for replica in replicas:
        replica.__exit__(None, None, None)
    assert bells(redis_url) == 30

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import redis
from kombu.exceptions import OperationalError

from servers import RedisServer
from videosvc_queue.celery_app import RING, broker_url, make_celery, ring, silent_routes
from videosvc_queue.redis_server import EmbeddedRedis
from videosvc_queue.tiers import Tier


def test_bells_lie_in_one_list_a_route_and_priority(redis_url: str) -> None:
    app = make_celery(redis_url)
    ring(app, "job1", "toy", Tier.BATCH)
    ring(app, "job2", "toy", Tier.INTERACTIVE)
    ring(app, "job3", "other/model:v1", Tier.INTERACTIVE)
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        lists = {key: client.lrange(key, 0, -1) for key in client.keys("videosvc.*")}
    (urgent,) = lists["videosvc.toy"]
    (batch,) = (messages for key, (messages,) in lists.items() if key.startswith("videosvc.toy") and key.endswith("5"))
    assert json.loads(urgent)["headers"]["task"] == RING
    assert "job2" in json.loads(urgent)["headers"]["argsrepr"]
    assert "job1" in json.loads(batch)["headers"]["argsrepr"]
    assert len(lists["videosvc.other/model:v1"]) == 1


def test_knows_where_no_bell_waits(redis_url: str) -> None:
    app = make_celery(redis_url)
    assert silent_routes(app, ["toy", "other"]) == ["toy", "other"]
    ring(app, "job1", "toy", Tier.BATCH)
    assert silent_routes(app, ["toy", "other"]) == ["other"]


def test_a_dead_redis_is_told_at_once_and_a_restarted_one_is_used(own_redis: RedisServer) -> None:
    app = make_celery(own_redis.url)
    ring(app, "job1", "toy", Tier.BATCH)
    own_redis.kill()
    started = time.monotonic()
    with pytest.raises(OperationalError):
        ring(app, "job2", "toy", Tier.BATCH)
    with pytest.raises(OperationalError):
        silent_routes(app, ["toy"])
    assert time.monotonic() - started < 30  # it does not try for ever
    own_redis.start()
    ring(app, "job3", "toy", Tier.BATCH)
    assert silent_routes(app, ["toy"]) == []


def test_rings_through_the_embedded_redis(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "a b%20c") as server:
        app = make_celery(server.url)
        ring(app, "job1", "toy", Tier.BATCH)
        assert silent_routes(app, ["toy", "other"]) == ["other"]


@pytest.mark.parametrize(
    ("redis_url", "broker"),
    [
        ("redis://host:6379/2", "redis://host:6379/2"),
        ("rediss://:pw@host/0", "rediss://:pw@host/0"),
        ("unix://:pw@/a%20b/redis.sock?db=0", "redis+socket://:pw@/a%20b/redis.sock?virtual_host=0"),
        ("unix:///run/redis.sock", "redis+socket:///run/redis.sock"),
    ],
)
def test_one_address_serves_both_libraries(redis_url: str, broker: str) -> None:
    assert broker_url(redis_url) == broker

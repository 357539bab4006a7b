from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
import redis

from eventually import eventually
from servers import RedisServer
from videosvc_queue.events import EventBus
from videosvc_queue.nudges import Nudges


@pytest.fixture
def bus(own_redis: RedisServer) -> Iterator[EventBus]:
    with closing(EventBus(own_redis.url)) as bus:
        yield bus


def test_word_of_a_name_is_heard_once_and_by_whom_it_concerns(own_redis: RedisServer, bus: EventBus) -> None:
    with Nudges(own_redis.url) as nudges, nudges.about("job_1") as one, nudges.about("job_2", "toy") as other:
        eventually(lambda: not nudges.deaf)
        assert one.take() and other.take()  # what was said before is not known
        assert not one.take() and not other.take()
        bus.nudge("job_1")
        eventually(one.take)
        assert not one.take() and not other.take()
        for name in ("toy", "job_2"):
            bus.nudge(name)
            eventually(other.take)
        bus.nudge("nobody")
        bus.nudge("job_1")
        eventually(one.take)
        assert not other.take()


def test_without_redis_there_may_always_be_word(own_redis: RedisServer, bus: EventBus) -> None:
    with Nudges(own_redis.url) as nudges, nudges.about("job_1") as nudge:
        eventually(lambda: not nudges.deaf)
        own_redis.kill()
        eventually(lambda: nudges.deaf)
        assert nudge.take() and nudge.take()
        own_redis.start()
        eventually(lambda: not nudges.deaf)
        assert nudge.take()  # it may have been said while nobody listened
        assert not nudge.take()
        bus.nudge("job_1")
        eventually(nudge.take)


def test_whoever_listens_no_more_leaves_nothing(own_redis: RedisServer) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        with Nudges(own_redis.url) as nudges, nudges.about("job_1"):
            eventually(lambda: client.pubsub_numsub("videosvc:nudges")[0][1] == 1)
        eventually(lambda: client.pubsub_numsub("videosvc:nudges")[0][1] == 0)

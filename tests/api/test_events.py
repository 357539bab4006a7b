from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import redis

from api_service import Api
from videosvc_queue.events import MAX_EVENTS


class Told(NamedTuple):
    id: str
    kind: str
    data: dict[str, Any]


def told(lines: Iterator[str]) -> Iterator[Told]:
    """Server-Sent Events as a client reads them; comments are passed over."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif "event" in fields:
            yield Told(fields["id"], fields["event"], json.loads(fields["data"]))
            fields = {}


@contextmanager
def following(api: Api, video_id: str, last: str | None = None) -> Iterator[Iterator[Told]]:
    headers = {"Last-Event-ID": last} if last else {}
    with api.client() as client, client.stream("GET", f"/v1/videos/{video_id}/events", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        yield told(answer.iter_lines())


def test_events_come_as_they_happen_and_end(api: Api, tmp_path: Path) -> None:
    video, bus = api.create(), api.services.bus
    with following(api, video["id"]) as events:
        bus.publish(video["id"], "plan", {"plan": video["plan"]})
        assert next(events)[1:] == ("plan", {"plan": video["plan"]})
        bus.publish(video["id"], "progress", {"progress": 50})
        assert next(events)[1:] == ("progress", {"progress": 50})
        api.complete(tmp_path)
        last = next(events)
        assert (last.id, last.kind, last.data["status"]) == ("end", "completed", "completed")
        assert last.data["id"] == video["id"] and last.data["receipt"] is not None
        assert list(events) == [], "the stream ends"


def test_a_lost_connection_goes_on_where_it_was(api: Api, tmp_path: Path) -> None:
    video, bus = api.create(), api.services.bus
    bus.publish(video["id"], "plan", {"plan": video["plan"]})
    for progress in (10, 20, 30):
        bus.publish(video["id"], "progress", {"progress": progress})
    with following(api, video["id"]) as events:
        next(events)
        first = next(events)
    with following(api, video["id"], last=first.id) as events:
        assert [next(events).data["progress"] for _ in range(2)] == [20, 30]
    api.complete(tmp_path)
    with following(api, video["id"], last=first.id) as events:
        assert [event.kind for event in events] == ["progress", "progress", "completed"]
    with following(api, video["id"], last="nonsense") as events:
        assert [event.kind for event in events] == ["plan"] + ["progress"] * 3 + ["completed"], "from the beginning"


def test_who_has_seen_the_end_is_told_to_stop(api: Api, tmp_path: Path) -> None:
    api.create()
    path = f"/v1/videos/{api.complete(tmp_path)}/events"
    with api.client() as client:
        answer = client.get(path, headers={"Last-Event-ID": "end"})
    assert (answer.status_code, answer.content) == (204, b"")


def test_failed_and_cancelled_are_ends_too(api: Api) -> None:
    first, second, third = api.create(), api.create(), api.create()
    with following(api, first["id"]) as events:
        api.fail("out_of_memory", "too large")
        end = next(events)
        assert (end.id, end.kind, end.data["error"]["code"]) == ("end", "failed", "out_of_memory")
    with api.client() as client:
        with following(api, second["id"]) as events:
            client.post(f"/v1/videos/{second['id']}/cancel")
            assert [event.kind for event in events] == ["cancelled"]
        with following(api, third["id"]) as events:
            client.delete(f"/v1/videos/{third['id']}")
            assert [event.kind for event in events] == ["cancelled"]


def test_the_end_is_told_though_redis_lost_it(api: Api, tmp_path: Path, redis_url: str) -> None:
    api.create()
    video_id = api.complete(tmp_path)
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    with following(api, video_id) as events:
        assert [event.kind for event in events] == ["completed"]


def test_who_comes_back_after_redis_was_wiped_goes_on_and_hears_the_end(
    api: Api, tmp_path: Path, redis_url: str
) -> None:
    video, bus = api.create(), api.services.bus
    bus.publish(video["id"], "plan", {"plan": video["plan"]})
    with following(api, video["id"]) as events:
        last = next(events).id
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    with following(api, video["id"], last=last) as events:
        bus.publish(video["id"], "progress", {"progress": 20})
        assert next(events)[1:] == ("progress", {"progress": 20})
        api.complete(tmp_path)
        assert [event.kind for event in events] == ["completed"]
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    with following(api, video["id"], last=last) as events:
        assert [event.kind for event in events] == ["completed"]


def test_who_comes_back_too_late_for_some_progress_hears_the_newest_and_the_end(api: Api, tmp_path: Path) -> None:
    video, bus = api.create(), api.services.bus
    bus.publish(video["id"], "plan", {"plan": video["plan"]})
    with following(api, video["id"]) as events:
        last = next(events).id
    for number in range(MAX_EVENTS + 20):
        bus.publish(video["id"], "progress", {"progress": number % 100})
    api.complete(tmp_path)
    with following(api, video["id"], last=last) as events:
        *progress, end = events
    newest = [number % 100 for number in range(MAX_EVENTS + 20)][-len(progress) :]
    assert [event.data["progress"] for event in progress] == newest
    assert len(progress) >= MAX_EVENTS - 1 and end.kind == "completed"


def test_who_comes_late_to_a_long_job_hears_its_plan_first(api: Api, tmp_path: Path) -> None:
    video, bus = api.create(), api.services.bus
    bus.publish(video["id"], "plan", {"plan": video["plan"]})
    for number in range(MAX_EVENTS + 20):
        bus.publish(video["id"], "progress", {"progress": number % 100})
    with following(api, video["id"]) as events:
        plan, first = next(events), next(events)
    assert plan[1:] == ("plan", {"plan": video["plan"]}) and first.kind == "progress"
    with following(api, video["id"], last=plan.id) as events:
        assert next(events) == first, "nothing is missed, and the plan is not told again"
    api.complete(tmp_path)
    with following(api, video["id"]) as events:
        kinds = [event.kind for event in events]
    assert kinds == ["plan", *["progress"] * (len(kinds) - 2), "completed"]


def test_who_wants_a_stream_too_many_is_told_to_come_back(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("videosvc.api.events.MAX_STREAMS", 1)
    video = api.create()
    api.services.bus.publish(video["id"], "plan", {"plan": video["plan"]})
    with following(api, video["id"]) as events, api.client() as client:
        next(events)
        answer = client.get(f"/v1/videos/{video['id']}/events")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) >= 1


def test_an_id_from_the_future_hides_no_end(api: Api, tmp_path: Path) -> None:
    """The clock of a Redis that was set back."""
    video = api.create()
    with following(api, video["id"], last="999999999999999-0") as events:
        api.complete(tmp_path)
        assert [event.kind for event in events] == ["completed"]


def test_a_client_that_leaves_is_forgotten(api: Api) -> None:
    video = api.create()
    gone = threading.Event()
    with following(api, video["id"]):
        assert api.services.metrics.streams() == 1
    for _ in range(200):
        if api.services.metrics.streams() == 0:
            break
        gone.wait(0.05)
    assert api.services.metrics.streams() == 0


def test_of_an_unknown_video(api: Api) -> None:
    with api.client() as client:
        answer: httpx.Response = client.get("/v1/videos/video_000000000000000000000000/events")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")

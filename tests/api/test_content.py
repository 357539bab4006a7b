from __future__ import annotations

import errno
import time
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem

from api_service import FILES, Api, Start
from buckets import working_bucket
from videosvc.artifacts.retention import Sweeper


@pytest.fixture
def done(api: Api, tmp_path: Path) -> str:
    """A completed video's content."""
    api.create()
    return f"/v1/videos/{api.complete(tmp_path)}/content"


@pytest.mark.parametrize(
    ("variant", "name", "media_type"),
    [
        ("video", "video.mp4", "video/mp4"),
        ("thumbnail", "thumbnail.webp", "image/webp"),
        ("spritesheet", "spritesheet.jpg", "image/jpeg"),
    ],
)
def test_each_variant(variant: str, name: str, media_type: str, done: str, api: Api) -> None:
    with api.client() as client:
        answer = client.get(done, params={"variant": variant})
        head = client.head(done, params={"variant": variant})
    assert answer.status_code == 200
    assert answer.content == FILES[name]
    assert answer.headers["content-type"] == media_type
    assert answer.headers["content-disposition"].endswith(f'.{name.partition(".")[2]}"')
    assert answer.headers["accept-ranges"] == "bytes"
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(FILES[name]))


@pytest.mark.parametrize(
    ("asked", "first", "behind"),
    [
        ("bytes=0-99", 0, 100),
        ("bytes=100-", 100, 4000),
        ("bytes=-7", 3993, 4000),
        ("bytes=3990-9999", 3990, 4000),
        ("bytes=-9999", 0, 4000),
    ],
)
def test_ranges(asked: str, first: int, behind: int, done: str, api: Api) -> None:
    with api.client() as client:
        answer = client.get(done, headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == FILES["video.mp4"][first:behind]
    assert answer.headers["content-range"] == f"bytes {first}-{behind - 1}/4000"
    assert answer.headers["content-length"] == str(behind - first)


@pytest.mark.parametrize("asked", ["bytes=5-2", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6"])
def test_what_is_no_single_range_gets_the_whole(asked: str, done: str, api: Api) -> None:
    with api.client() as client:
        answer = client.get(done, headers={"Range": asked})
    assert (answer.status_code, len(answer.content)) == (200, 4000)


@pytest.mark.parametrize("asked", ["bytes=4000-", "bytes=-0", "bytes=9999-10000"])
def test_a_range_behind_the_end(asked: str, done: str, api: Api) -> None:
    with api.client() as client:
        answer = client.get(done, headers={"Range": asked})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == "bytes */4000"
    assert answer.json()["error"]["param"] == "Range"


def test_etags(done: str, api: Api) -> None:
    with api.client() as client:
        etag = client.get(done).headers["etag"]
        unchanged = client.get(done, headers={"If-None-Match": f'"other", {etag}'})
        assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", etag)
        assert client.get(done, headers={"If-None-Match": '"other"'}).status_code == 200
        part = {"Range": "bytes=0-9"}
        assert client.get(done, headers={"If-Range": etag, **part}).status_code == 206
        assert client.get(done, headers={"If-Range": '"other"', **part}).status_code == 200


def test_before_the_end_it_is_not_ready(api: Api) -> None:
    path = f"/v1/videos/{api.create()['id']}"
    with api.client() as client:
        for place in ("content", "preview"):
            answer = client.get(f"{path}/{place}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_ready")
            assert answer.headers["x-should-retry"] == "false", "the SDK would ask again at once"


def test_a_failed_video_has_none(api: Api) -> None:
    api.create()
    with api.client() as client:
        answer = client.get(f"/v1/videos/{api.fail('out_of_memory', 'too large')}/content")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_head_reads_no_file_and_knows_whether_there_is_one(
    done: str, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.services.artifacts, "open", None)
    with api.client() as client:
        head = client.head(done, headers={"Range": "bytes=0-99"})
        assert (head.status_code, head.headers["content-length"]) == (206, "100")
        api.services.artifacts.delete(done.split("/")[3])
        assert client.head(done).status_code == 404


def test_after_its_time_it_is_gone(api: Api, tmp_path: Path) -> None:
    api.create()
    video_id = api.complete(tmp_path, expires_at=time.time() - 1)
    with api.client() as client:
        expired = client.get(f"/v1/videos/{video_id}/content")
        assert (expired.status_code, expired.json()["error"]["code"]) == (404, "content_expired")
        Sweeper(api.services.store, api.services.artifacts, 86400.0).tick()
        removed = client.get(f"/v1/videos/{video_id}/content")
        assert (removed.status_code, removed.json()["error"]["code"]) == (404, "content_expired")
        assert client.get(f"/v1/videos/{video_id}").json()["status"] == "completed"


def test_a_file_that_is_missing_is_gone_too(done: str, api: Api) -> None:
    api.services.artifacts.delete(done.split("/")[3])
    with api.client() as client:
        answer = client.get(done)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "content_expired")


def test_an_unknown_variant_is_named(done: str, api: Api) -> None:
    with api.client() as client:
        error = client.get(done, params={"variant": "poster"})
    assert error.status_code == 400
    assert error.json()["error"]["param"] == "variant"
    assert "spritesheet" in error.json()["error"]["message"]


def test_the_newest_preview(api: Api, tmp_path: Path) -> None:
    video_id = api.create()["id"]
    path = f"/v1/videos/{video_id}/preview"
    with api.client() as client:
        for image in (b"first", b"second"):
            api.services.bus.preview(video_id, image)
            answer = client.get(path)
            assert (answer.content, answer.headers["content-type"]) == (image, "image/jpeg")
            assert answer.headers["cache-control"] == "no-store"
        other = api.create()["id"]
        client.post(f"/v1/videos/{other}/cancel")
        gone = client.get(f"/v1/videos/{other}/preview")
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "not_found")


def test_a_store_that_is_away_is_no_bug(done: str, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(LocalFileSystem, "open", away)
    with api.client() as client:
        answer = client.get(done)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) >= 1


def test_files_in_a_bucket(start: Start, tmp_path: Path) -> None:
    with working_bucket():
        api = start(artifact_url="s3://bucket/prefix")
        content = f"/v1/videos/{api.create()['id']}/content"
        api.complete(tmp_path)
        whole = FILES["video.mp4"]
        with api.client() as client:
            assert client.get(content).content == whole
            part = client.get(content, headers={"Range": "bytes=100-199"})
            assert (part.status_code, part.content) == (206, whole[100:200])
            head = client.head(content)
            assert (head.status_code, head.headers["content-length"]) == (200, str(len(whole)))
            assert client.get(content, params={"variant": "thumbnail"}).content == FILES["thumbnail.webp"]
            assert client.delete(content.removesuffix("/content")).status_code == 200
        Sweeper(api.services.store, api.services.artifacts, 86400.0).tick()
        assert api.services.artifacts.jobs() == []

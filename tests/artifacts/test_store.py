from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buckets import bucket_that_is_away, bucket_to_write_only, working_bucket
from videosvc.artifacts.store import ArtifactStore
from videosvc.errors import ConfigError

JOB = "video_abc-DEF_123"
CONTENT = os.urandom(600_000)  # more than two pieces


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ArtifactStore]:
    if request.param == "file":
        yield ArtifactStore(f"file://{tmp_path}/kept")
    else:
        with working_bucket() as store:
            yield store


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "video.mp4"
    path.write_bytes(CONTENT)
    return path


def test_what_is_put_can_be_read_in_parts(store: ArtifactStore, video: Path) -> None:
    artifact = store.put(JOB, 3, "video.mp4", video)
    assert artifact.as_dict() == {
        "key": f"{JOB}/3/video.mp4",
        "bytes": len(CONTENT),
        "etag": hashlib.sha256(CONTENT).hexdigest(),
        "media_type": "video/mp4",
    }
    assert store.size(artifact.key) == len(CONTENT)
    assert b"".join(store.open(artifact.key)) == CONTENT
    assert b"".join(store.open(artifact.key, 5, 300_005)) == CONTENT[5:300_005]
    assert b"".join(store.open(artifact.key, 599_999)) == CONTENT[-1:]
    assert b"".join(store.open(artifact.key, 7, 7)) == b""


def test_attempts_do_not_meet(store: ArtifactStore, video: Path) -> None:
    first = store.put(JOB, 1, "video.mp4", video)
    video.write_bytes(b"other")
    second = store.put(JOB, 2, "video.mp4", video)
    assert b"".join(store.open(first.key)) == CONTENT
    assert b"".join(store.open(second.key)) == b"other"


def test_delete_takes_every_attempt_and_nothing_else(store: ArtifactStore, video: Path) -> None:
    gone = [store.put(JOB, fence, "video.mp4", video).key for fence in (1, 2)]
    kept = store.put("video_other", 1, "video.mp4", video).key
    store.delete(JOB)
    store.delete(JOB)  # none is fine
    for key in gone:
        with pytest.raises(FileNotFoundError):
            store.size(key)
        with pytest.raises(FileNotFoundError):
            store.open(key)
    assert store.size(kept) == len(CONTENT)


@pytest.mark.parametrize("job_id", ["", ".", "..", "a/b", "../other", "a\0"])
def test_what_is_no_id_removes_nothing(store: ArtifactStore, video: Path, job_id: str) -> None:
    kept = store.put(JOB, 1, "video.mp4", video).key
    with pytest.raises(ValueError, match="job_id"):
        store.delete(job_id)
    with pytest.raises(ValueError, match="job_id"):
        store.put(job_id, 1, "video.mp4", video)
    assert store.size(kept) == len(CONTENT)


def test_a_failed_copy_leaves_nothing(tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    store = ArtifactStore(f"file://{tmp_path}/kept")
    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        store.put(JOB, 1, "video.mp4", video)
    assert [path for path in (tmp_path / "kept").rglob("*") if path.is_file()] == []


def test_an_address_nobody_serves_is_one_line() -> None:
    with pytest.raises(ConfigError, match="artifact_url = 'nowhere://bucket'"):
        ArtifactStore("nowhere://bucket")


def test_a_store_that_is_away_is_an_os_error(video: Path) -> None:
    """Which the API answers with 503, and the sweeper and workers try again."""
    with bucket_that_is_away() as store:
        calls: list[Callable[[], object]] = [
            lambda: store.put(JOB, 1, "video.mp4", video),
            lambda: store.size(f"{JOB}/1/video.mp4"),
            lambda: store.open(f"{JOB}/1/video.mp4"),
            lambda: store.delete(JOB),
            lambda: store.jobs(),
        ]
        for call in calls:
            with pytest.raises(OSError, match="EndpointConnectionError: Could not connect"):
                call()


def test_to_put_is_all_that_a_bucket_must_allow(video: Path) -> None:
    with bucket_to_write_only() as (store, objects):
        assert store.put(JOB, 1, "video.mp4", video).bytes == len(CONTENT)
    assert list(objects) == [f"/bucket/prefix/{JOB}/1/video.mp4"]


def test_jobs_are_found_by_their_files(store: ArtifactStore, video: Path) -> None:
    assert store.jobs() == []
    store.put(JOB, 0, "video.mp4", video)
    store.put("other", 2, "video.mp4", video)
    assert sorted(store.jobs()) == sorted([JOB, "other"])
    later = time.time() + 60
    assert [store.has_only_input(job, later) for job in (JOB, "other", "nobody")] == [True, False, False]
    assert not store.has_only_input(JOB, later - 120)
    store.put(JOB, 1, "video.mp4", video)
    assert not store.has_only_input(JOB, later)

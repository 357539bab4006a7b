from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path

import pytest

from buckets import bucket_that_is_away
from videosvc.artifacts.retention import ORPHAN_S, ORPHANS_EVERY_S, Sweeper, without_words
from videosvc.artifacts.store import ArtifactStore
from videosvc_queue.job import NewJob, Status
from videosvc_queue.retention import LEFT_BEHIND_S
from videosvc_queue.store import Store
from videosvc_queue.tenants import TenantLimits
from videosvc_queue.tiers import Tier

KEPT_S = 2.0 * LEFT_BEHIND_S
QUOTE = {"plan": {"prompt": "a red ball", "negative_prompt": "blue", "seed": 7}, "price_usd": "0.01"}


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(f"file://{tmp_path}/kept")


def finish(store: Store, artifacts: ArtifactStore, job_id: str, expires_at: float, video: Path) -> str:
    """A completed job with one file; returns that file's key."""
    job = NewJob(job_id, "ann", Tier.BATCH, "toy", {}, 1.0, Decimal("0.01"), 60.0)
    store.submit(job, TenantLimits())
    claim = store.claim(["toy"], "worker-1")
    assert claim is not None
    artifact = artifacts.put(job_id, claim.fence, "video.mp4", video)
    result = {"artifacts": {"video": artifact.as_dict()}}
    store.finish(job_id, claim.fence, Status.COMPLETED, result=result, charge_usd=Decimal(0), expires_at=expires_at)
    return artifact.key


def test_what_has_expired_goes_and_its_row_says_so(store: Store, artifacts: ArtifactStore, tmp_path: Path) -> None:
    video = tmp_path / "video.mp4"
    video.write_bytes(b"clip")
    keys = {
        name: finish(store, artifacts, name, expires_at, video)
        for name, expires_at in (("video_a", 1000.0), ("video_b", 2000.0), ("video_c", 3000.0))
    }
    sweeper = Sweeper(store, artifacts, KEPT_S)
    assert sweeper.tick(now=2000.0) == 2
    for name in ("video_a", "video_b"):
        with pytest.raises(FileNotFoundError):
            artifacts.size(keys[name])
        job = store.get(name)
        assert job is not None and job.removed_at is not None and job.status is Status.COMPLETED
    assert artifacts.size(keys["video_c"]) == 4
    kept = store.get("video_c")
    assert kept is not None and kept.removed_at is None
    assert sweeper.tick(now=2000.0) == 0


@pytest.mark.parametrize("ends", ["completed", "worker lost", "cancelled"])
def test_what_lost_attempts_stored_goes_with_the_job(
    store: Store, artifacts: ArtifactStore, tmp_path: Path, ends: str
) -> None:
    video = tmp_path / "video.mp4"
    video.write_bytes(b"clip")
    store.submit(NewJob("video_a", "ann", Tier.BATCH, "toy", {}, 1.0, Decimal("0.01"), 60.0), TenantLimits())
    keys, status = [], Status.QUEUED
    while status is Status.QUEUED:
        claim = store.claim(["toy"], "worker-1")
        assert claim is not None
        keys.append(artifacts.put("video_a", claim.fence, "video.mp4", video).key)
        if ends == "completed" and len(keys) == 2:
            status = Status.COMPLETED
            store.finish("video_a", claim.fence, status, result={}, charge_usd=Decimal(0), expires_at=5000.0)
        else:
            if ends == "cancelled":
                store.cancel("video_a", "ann")
            status = store.requeue("video_a", claim.fence) or status
    assert (len(keys), str(status)) == {
        "completed": (2, "completed"), "worker lost": (3, "failed"), "cancelled": (1, "cancelled"),
    }[ends]  # fmt: skip
    ended = store.get("video_a")
    assert ended is not None and ended.completed_at is not None
    goes_at = ended.expires_at or ended.completed_at + KEPT_S
    sweeper = Sweeper(store, artifacts, KEPT_S)
    assert sweeper.tick(now=goes_at - 1) == 0
    assert [artifacts.size(key) for key in keys] == [4] * len(keys)
    assert sweeper.tick(now=goes_at) == 1
    for key in keys:
        with pytest.raises(FileNotFoundError):
            artifacts.size(key)
    assert sweeper.tick(now=goes_at) == 0


def test_a_file_that_cannot_go_is_tried_again(
    store: Store, artifacts: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ArtifactStore.delete

    def stuck(self: ArtifactStore, job_id: str) -> None:
        if job_id == "video_a":
            raise PermissionError("not yours")
        whole(self, job_id)

    video = tmp_path / "video.mp4"
    video.write_bytes(b"clip")
    first = finish(store, artifacts, "video_a", 1000.0, video)
    second = finish(store, artifacts, "video_b", 1500.0, video)
    sweeper = Sweeper(store, artifacts, KEPT_S)
    with monkeypatch.context() as patch:
        patch.setattr(ArtifactStore, "delete", stuck)
        with pytest.raises(PermissionError, match="not yours"):
            sweeper.tick(now=2000.0)
    assert artifacts.size(first) == 4
    with pytest.raises(FileNotFoundError):  # one that is stuck does not keep the others
        artifacts.size(second)
    assert sweeper.tick(now=2000.0) == 1


def test_however_many_have_expired_all_go_at_once_past_those_that_cannot(
    store: Store, artifacts: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ArtifactStore.delete

    def stuck(self: ArtifactStore, job_id: str) -> None:
        if job_id < "video_2":
            raise PermissionError(f"{job_id} is not yours")
        whole(self, job_id)

    video = tmp_path / "video.mp4"
    video.write_bytes(b"clip")
    for number in range(5):
        finish(store, artifacts, f"video_{number}", 1000.0, video)
    monkeypatch.setattr("videosvc.artifacts.retention.BATCH", 2)
    monkeypatch.setattr(ArtifactStore, "delete", stuck)
    with pytest.raises(PermissionError, match="video_1 is not yours"):
        Sweeper(store, artifacts, KEPT_S).tick(now=2000.0)
    left = [job.id for job in store.expired_artifacts(now=2000.0, limit=10)]
    assert left == ["video_0", "video_1"], "to be tried again"


def test_a_picture_whose_job_never_came_to_be_goes_after_a_day(
    store: Store, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    picture, others = tmp_path / "input_reference.png", tmp_path / "kept" / "notes" / "0"
    picture.write_bytes(b"picture")
    keys = {
        name: artifacts.put(name, 0, picture.name, picture).key for name in ("orphan", "queued", "deleted", "older")
    }
    ran = artifacts.put("older", 1, picture.name, picture).key  # of another database, as an attempt has run
    for name in ("queued", "deleted"):
        store.submit(NewJob(name, "ann", Tier.BATCH, "toy", {}, 1.0, Decimal("0.01"), 60.0), TenantLimits())
    others.parent.mkdir()
    others.touch()  # no files of a job at all
    now = time.time()
    sweeper = Sweeper(store, artifacts, KEPT_S)
    assert sweeper.tick(now + ORPHAN_S - 60) == 0
    assert sweeper.tick(now + ORPHAN_S) == 0, "it was looked for a minute ago"
    store.delete("deleted", "ann")
    assert sweeper.tick(now + ORPHAN_S + ORPHANS_EVERY_S) == 2, "the deleted one, in its own way"
    for name in ("orphan", "deleted"):
        with pytest.raises(FileNotFoundError):
            artifacts.size(keys[name])
    assert [artifacts.size(key) for key in (keys["queued"], keys["older"], ran)] == [7] * 3
    assert others.exists()


def test_before_anything_was_stored_there_is_nothing_to_sweep(store: Store, tmp_path: Path) -> None:
    assert Sweeper(store, ArtifactStore(f"file://{tmp_path}/none"), KEPT_S).tick() == 0


def test_a_store_that_is_away_stops_no_sweep(store: Store, artifacts: ArtifactStore, tmp_path: Path) -> None:
    """Each job is tried, and none is marked."""
    video = tmp_path / "video.mp4"
    video.write_bytes(b"clip")
    for name in ("video_a", "video_b"):
        finish(store, artifacts, name, 1000.0, video)
    with bucket_that_is_away() as away, pytest.raises(OSError, match="EndpointConnectionError"):
        Sweeper(store, away, KEPT_S).tick(now=2000.0)
    assert Sweeper(store, artifacts, KEPT_S).tick(now=2000.0) == 2


def test_a_deleted_job_without_a_clip_goes_within_an_hour(store: Store, artifacts: ArtifactStore) -> None:
    store.submit(NewJob("video_a", "ann", Tier.BATCH, "toy", {}, 1.0, Decimal("0.01"), 60.0), TenantLimits())
    ended = store.delete("video_a", "ann")
    assert ended is not None and ended.completed_at is not None
    sweeper = Sweeper(store, artifacts, KEPT_S)
    assert sweeper.tick(now=ended.completed_at + LEFT_BEHIND_S - 1) == 0
    assert sweeper.tick(now=ended.completed_at + LEFT_BEHIND_S) == 1


def test_an_expired_jobs_words_go_with_its_files(store: Store, artifacts: ArtifactStore) -> None:
    quoted = NewJob("video_a", "ann", Tier.BATCH, "toy", {"quote": QUOTE}, 1.0, Decimal("0.01"), 60.0)
    store.submit(quoted, TenantLimits())
    claim = store.claim(["toy"], "worker-1")
    assert claim is not None
    store.finish("video_a", claim.fence, Status.COMPLETED, result={}, charge_usd=Decimal(0), expires_at=1000.0)
    Sweeper(store, artifacts, KEPT_S).tick(now=1000.0)
    job = store.get("video_a")
    assert job is not None
    plan = {"prompt": "", "negative_prompt": "", "seed": 7}
    assert job.payload == {"quote": {**QUOTE, "plan": plan}}


@pytest.mark.parametrize("payload", [{}, {"quote": None}, {"quote": {"plan": "odd"}}, {"prompt": "a red ball"}])
def test_of_a_payload_that_is_none_of_ours_nothing_is_kept(payload: dict[str, object]) -> None:
    assert without_words(payload) == {}

"""The plain `openai` package against a running service."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from PIL import Image

from api_service import FILES, TLS, Api

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API is scheduled:DeprecationWarning")


@pytest.fixture
def client(api: Api) -> Iterator[openai.OpenAI]:
    http = openai.DefaultHttpxClient(verify=TLS)
    with openai.OpenAI(base_url=f"{api.url}/v1", api_key="none", http_client=http, max_retries=0) as client:
        yield client


def test_create_retrieve_list_delete(client: openai.OpenAI) -> None:
    extra = {"metadata": {"shelf": "3", "row": "ä"}, "seed": 7, "max_cost_usd": 0.01, "tier": "batch"}
    video = client.videos.create(
        prompt="a fish", model="toyworld", seconds="4", size="96x96", extra_body=extra  # type: ignore[arg-type]
    )
    assert (video.status, video.seconds, video.size, video.model) == ("queued", "4", "96x96", "toyworld")
    assert video.model_extra is not None
    assert video.model_extra["metadata"] == extra["metadata"] and video.model_extra["tier"] == "batch"
    assert client.videos.retrieve(video.id).id == video.id
    others = [client.videos.create(prompt="a fish").id for _ in range(2)]
    listed = [one.id for one in client.videos.list(limit=1)]  # page after page
    assert listed == [*reversed(others), video.id]
    deleted = client.videos.delete(video.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (video.id, True, "video.deleted")
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve(video.id)


def test_create_and_poll_and_download(client: openai.OpenAI, api: Api, tmp_path: Path) -> None:
    def work() -> None:
        while not api.services.store.rings_needed():
            pause.wait(0.01)
        api.complete(tmp_path)

    pause = threading.Event()
    worker = threading.Thread(target=work)
    worker.start()
    video = client.videos.create_and_poll(prompt="a fish")
    worker.join()
    assert (video.status, video.progress) == ("completed", 100)
    assert video.expires_at == 4_000_000_000
    for variant, name in (("video", "video.mp4"), ("thumbnail", "thumbnail.webp"), ("spritesheet", "spritesheet.jpg")):
        content = client.videos.download_content(video.id, variant=variant)  # type: ignore[arg-type]
        assert content.read() == FILES[name]


def test_a_failed_job_is_no_exception(client: openai.OpenAI, api: Api) -> None:
    video = client.videos.create(prompt="a fish")
    api.fail("out_of_memory", "too large")
    failed = client.videos.poll(video.id)
    assert failed.status == "failed" and failed.error is not None
    assert (failed.error.code, failed.error.message) == ("out_of_memory", "too large")


def test_errors_are_the_packages_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.videos.create(prompt="a fish", size="70x70")  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.param) == ("unsupported_size", "size")
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        client.videos.create(prompt="a fish", extra_body={"max_cost_usd": 1e-9})
    assert refused.value.code == "cap_too_low"
    with pytest.raises(openai.ConflictError) as early:
        client.videos.download_content(client.videos.create(prompt="a fish").id)
    assert early.value.code == "not_ready"
    with pytest.raises(openai.BadRequestError) as damaged:
        client.videos.create(prompt="a fish", input_reference=("a.png", b"no picture"))
    assert damaged.value.param == "input_reference"


def test_a_picture_to_start_from(client: openai.OpenAI, api: Api, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (300, 200), "red").save(path)
    with path.open("rb") as file:
        for reference in (file, path, ("a.png", path.read_bytes())):
            video = client.videos.create(prompt="a fish", input_reference=reference)
            job = api.services.store.get(video.id)
            assert job is not None and job.payload["input_reference"] == f"{video.id}/0/input_reference.png"
            kept = b"".join(api.services.artifacts.open(job.payload["input_reference"]))
            with Image.open(io.BytesIO(kept)) as image:
                assert (image.size, image.getpixel((0, 0))) == ((300, 200), (255, 0, 0))

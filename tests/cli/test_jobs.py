"""`videosvc jobs` against a service whose jobs are ended by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from api_service import Api, starter
from videosvc.cli.main import run


@pytest.fixture
def api(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    with starter(tmp_path / "service", redis_url) as start:
        api = start()
        monkeypatch.setenv("VIDEOSVC_URL", api.url)
        yield api


@pytest.mark.parametrize(("code", "exit_code"), [("compute_cap_exceeded", 3), ("out_of_memory", 4)])
def test_a_job_that_its_cap_ended_has_an_exit_code_of_its_own(
    code: str, exit_code: int, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    api.create()
    assert run(["jobs", "watch", api.fail(code, "it was too much")]) == exit_code
    assert f"failed: {code}: it was too much\n" in capsys.readouterr().err


@pytest.mark.parametrize("variant", ["video", "thumbnail", "spritesheet"])
def test_where_nothing_can_be_written_nothing_is_fetched(
    variant: str, api: Api, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api.create()
    download = ["jobs", "download", api.complete(tmp_path), "--variant", variant, "-o"]
    folder = tmp_path / "none"
    assert run([*download, str(folder / "a.mp4")]) == 2
    assert capsys.readouterr().err == f"error: -o: there is no folder {str(folder)!r}\n"
    requests = api.services.metrics.text().decode()
    assert "/content" not in requests
    assert run([*download, str(tmp_path / "fetched.mp4")]) == 0
    assert (tmp_path / "fetched.mp4").stat().st_size > 0


def test_a_quote_for_people_tells_price_plan_and_until_when(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["jobs", "quote", "a fish", "--seconds", "1"]) == 0
    line = capsys.readouterr().out
    for part in ("quote_", " USD at most; ", " a second of the clip; ", " frames at 8 fps, steps ", "binding until "):
        assert part in line


@pytest.mark.parametrize("with_picture", [False, True])
def test_metadata_come_back_with_the_video(
    with_picture: bool, api: Api, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "a.png"
    Image.new("RGB", (90, 60), "red").save(picture)
    words = ["--metadata", "order=7", "--metadata", "note=a=b"]
    words += ["--input-reference", str(picture)] if with_picture else []
    assert run(["jobs", "submit", "a fish", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metadata"] == {"order": "7", "note": "a=b"}
    assert run(["jobs", "submit", "a fish", "--min-quality", "2"]) == 2
    assert capsys.readouterr().err.startswith("error: --min-quality: ")

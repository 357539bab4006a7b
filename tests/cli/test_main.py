"""What goes wrong is one line that names what the user can change, and an exit code; never a traceback."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from videosvc.cli.main import run

SERVE = ("serve", "--no-workers", "--no-embedded")


@pytest.fixture(autouse=True)
def variables_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """`serve` and `worker` set them for the processes that they start."""
    for name in ("HOST", "PORT", "INSECURE", "DEVICE"):
        monkeypatch.setenv(f"VIDEOSVC_{name}", "")
        monkeypatch.delenv(f"VIDEOSVC_{name}")


@pytest.fixture
def taken_port() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield str(taken.getsockname()[1])


def refused(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> str:
    """The one line of a command that was refused."""
    assert run(list(words)) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = [line for line in captured.err.splitlines() if line.startswith(("error: ", "failed: "))]
    assert "Traceback" not in captured.err
    return line.partition(": ")[2]


@pytest.mark.parametrize("command", [("keys", "list"), SERVE, ("worker", "--device", "cpu")], ids=" ".join)
@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("postgresql+psycopg://ada:hidden@127.0.0.1:1/clips", 4),
        ("sqlite:////proc/nope/x.db", 2),
        ("postgresql+psycopg://ada:hidden@127.0.0.1:abc/clips", 2),
    ],
)
def test_a_database_that_is_not_there(
    url: str,
    code: int,
    command: tuple[str, ...],
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("VIDEOSVC_DATABASE_URL", url)
    monkeypatch.setenv("VIDEOSVC_REDIS_URL", redis_url)
    monkeypatch.setenv("VIDEOSVC_PORT", "0")
    line = refused(capsys, code, *command)
    assert line.startswith("VIDEOSVC_DATABASE_URL: ")
    assert "hidden" not in line and "sqlalche.me" not in line


@pytest.mark.parametrize("url", ["redis://127.0.0.1:abc/0", "redis+socket:///run/redis.sock"])
def test_a_redis_url_that_is_none(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VIDEOSVC_REDIS_URL", url)
    for command in (SERVE, ("worker",)):
        assert refused(capsys, 2, *command).startswith("VIDEOSVC_REDIS_URL: must be redis://")


def test_a_data_folder_that_cannot_be(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for place in ("/proc/nope", str(tmp_path / "file")):
        assert refused(capsys, 2, *SERVE, "--data-dir", place).startswith(f"--data-dir: there can be no folder {place}")
        monkeypatch.setenv("VIDEOSVC_DATA_DIR", place)
        monkeypatch.setenv("VIDEOSVC_REDIS_URL", redis_url)
        for command in (("worker", "--device", "cpu"), ("keys", "list")):
            assert refused(capsys, 2, *command).startswith(f"VIDEOSVC_DATA_DIR: there can be no folder {place}")


def test_what_was_given_is_named(
    taken_port: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, 2, "worker", "--device", "tpu") == "--device: 'tpu': must be auto, cpu, cuda or cuda:N"
    monkeypatch.setenv("VIDEOSVC_DEVICE", "tpu")
    assert refused(capsys, 2, "worker") == "VIDEOSVC_DEVICE: 'tpu': must be auto, cpu, cuda or cuda:N"
    monkeypatch.delenv("VIDEOSVC_DEVICE")
    assert refused(capsys, 2, "worker").startswith("VIDEOSVC_REDIS_URL: a worker needs")
    assert refused(capsys, 2, "quote", "a fish", "--preset", "ultra").startswith("--preset: 'ultra' is unknown")
    monkeypatch.setenv("VIDEOSVC_PRESET", "ultra")
    assert refused(capsys, 2, "quote", "a fish").startswith("VIDEOSVC_PRESET: 'ultra' is unknown")
    monkeypatch.setenv("VIDEOSVC_REDIS_URL", redis_url)
    monkeypatch.setenv("VIDEOSVC_DATA_DIR", str(tmp_path))
    line = refused(capsys, 2, *SERVE, f"--port={taken_port}")
    assert line.startswith(f"--port: cannot listen on 127.0.0.1, port {taken_port}: ")
    monkeypatch.setenv("VIDEOSVC_PORT", taken_port)
    assert refused(capsys, 2, *SERVE).startswith("VIDEOSVC_PORT: cannot listen")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["a fish", "--seconds", "nan"], "--seconds: nan must be a finite number"),
        (["a fish", "--max-cost", "nan"], "--max-cost: nan must be"),
        (["a fish", "--max-compute", "inf"], "--max-compute: inf must be"),
        (["a fish \udcff"], "PROMPT: must be UTF-8 text"),
        (["a fish", "--negative-prompt", "\udcff"], "--negative-prompt: must be UTF-8 text"),
        (["a fish", "--idempotency-key", "ä"], "--idempotency-key: must be ASCII"),
        (["a fish", "--metadata", "order"], "--metadata: 'order' must be KEY=VALUE"),
        (["a fish", "--metadata", "=7"], "--metadata: '=7' must be KEY=VALUE"),
        (["a fish", "--metadata", "a=7", "--metadata", "a=8"], "--metadata: 'a' is there twice"),
        (["a fish", "--metadata", "a=\udcff"], "--metadata: must be UTF-8 text"),
    ],
)
def test_what_no_service_could_be_sent(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, 2, "jobs", "submit", *words).startswith(says)


@pytest.mark.parametrize("command", ["generate", "quote"])
def test_a_prompt_of_too_many_tokens_is_refused_before_anything_is_loaded(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = ["-o", str(tmp_path / "a.mp4")] if command == "generate" else []
    line = refused(capsys, 2, command, "red " * 40, *output)
    assert line == "PROMPT: 41 tokens; the model reads at most 32"

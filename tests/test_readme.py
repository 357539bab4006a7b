"""Runs every command that the README and the docs show."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import Service, serving

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DEFAULT_URL = "http://127.0.0.1:8000"
NOT_HERE = {"make test"}  # is what runs this; only that make knows it is checked


def commands(kind: str = "bash") -> list[str]:
    """Of all blocks marked ```kind."""
    blocks = [block for page in PAGES for block in re.findall(rf"```{kind}\n(.*?)```", page.read_text(), re.DOTALL)]
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def run(command: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ours = {"PATH": path, "VIDEOSVC_CONFIG_DIR": str(ROOT / "configs"), "VIDEOSVC_DATA_DIR": str(folder / "data")}
    environment = {**os.environ, **ours, **variables}
    return subprocess.run(shlex.split(command), cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("service")) as running:
        running.wait_until_ready()
        yield running


@pytest.mark.parametrize("command", commands("bash service"))
def test_command_for_a_running_service(command: str, service: Service, tmp_path: Path) -> None:
    for example in (ROOT / "docs" / "examples").iterdir():
        (tmp_path / example.name).symlink_to(example)
    result = run(command.replace(DEFAULT_URL, service.url), tmp_path, VIDEOSVC_URL=service.url)
    assert result.returncode == 0, result.stderr
    written = [word for word in shlex.split(command) if word.endswith(".mp4")]
    assert all((tmp_path / name).read_bytes()[4:8] == b"ftyp" for name in written)


@pytest.mark.parametrize("command", commands())
def test_command_of_the_docs(command: str, tmp_path: Path) -> None:
    if command.startswith("make"):
        dry = ["-n"] if command in NOT_HERE else []
        result = run(shlex.join([*command.split(), *dry, f"VENV={sys.prefix}", f"OUTPUT={tmp_path}/demo.mp4"]), ROOT)
    else:
        (tmp_path / "configs").symlink_to(ROOT / "configs")
        result = run(command, tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr


def test_links_of_the_docs_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_there_are_commands_to_run() -> None:
    assert "make demo" in commands()

"""Runs every command that the README and the docs show."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_HERE = {"make test"}  # is what runs this; only that make knows it is checked


def commands() -> list[str]:
    blocks = [block for page in PAGES for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)]
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "VIDEOSVC_CONFIG_DIR": str(ROOT / "configs")}
    return subprocess.run(shlex.split(command), cwd=folder, env=environment, capture_output=True, text=True)


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

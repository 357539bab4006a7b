"""The wheel, installed where no checkout is near, makes a clip with the model and the presets that it ships."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def call(*command: str | Path, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIDEOSVC_"))}
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a venv that holds the wheel; what it depends on is borrowed from this one."""
    folder = tmp_path_factory.mktemp("wheel")
    call(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT, cwd=folder)
    call(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    (wheel,) = folder.glob("videosvc-*.whl")
    call(python, "-m", "pip", "install", "-q", "--no-deps", wheel, cwd=folder)
    site = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    # A .pth inside a folder named by another is not read, so this venv's editable install stays out.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python.parent


def test_generates_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    place = call(installed / "python", "-c", "import videosvc; print(videosvc.__file__)", cwd=tmp_path)
    assert str(installed.parent) in place
    output = tmp_path / "clip.mp4"
    said = call(
        installed / "videosvc", "generate", "a red ball bounces on a meadow", "-o", output, "--preset", "draft",
        "--seconds", "1", "--json", cwd=tmp_path,
    )  # fmt: skip
    assert json.loads(said)["plan"]["model"] == "toyworld"
    assert output.stat().st_size > 1000


def test_ships_its_presets(installed: Path, tmp_path: Path) -> None:
    listed = call(installed / "videosvc", "presets", "list", cwd=tmp_path)
    assert all(name in listed for name in ("draft", "balanced", "quality", "reference"))


def test_ships_what_was_measured(installed: Path, tmp_path: Path) -> None:
    quoted = call(installed / "videosvc", "quote", "a red ball", "--json", cwd=tmp_path)
    assert json.loads(quoted)["quality_measured"] is True

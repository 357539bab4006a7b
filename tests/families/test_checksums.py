from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from videosvc.config.settings import PACKAGE
from videosvc.errors import ModelError
from videosvc.families.checksums import SUMS, check_sums, write_sums

BUNDLED = PACKAGE / "bundled" / "toyworld"
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(causal_folder: Path, tmp_path: Path) -> Path:
    """A model of a test's own, with sums."""
    copy = tmp_path / "tiny"
    shutil.copytree(causal_folder, copy)
    write_sums(copy)
    return copy


def test_the_bundled_model_is_as_its_sums_say() -> None:
    """After training: python -m videosvc.families.checksums videosvc/bundled/toyworld"""
    assert (BUNDLED / SUMS).is_file()
    check_sums("toyworld", BUNDLED)


def test_sha256sum_reads_them(folder: Path) -> None:
    done = subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0 and f"{WEIGHTS}: OK" in done.stdout


def test_what_was_changed_or_lost_is_named(folder: Path) -> None:
    check_sums("tiny", folder)
    weights = folder / WEIGHTS
    data = weights.read_bytes()
    weights.write_bytes(data[:-4000] + b"\xff" * 4000)  # NaN, in a file that is whole by its header
    with pytest.raises(ModelError, match=f"{WEIGHTS} is damaged: its SHA-256 is not that of SHA256SUMS"):
        check_sums("tiny", folder)
    weights.unlink()
    with pytest.raises(ModelError, match=f"{WEIGHTS} cannot be read"):
        check_sums("tiny", folder)


@pytest.mark.parametrize("mode", [[], ["--binary"]])
def test_reads_what_sha256sum_writes(folder: Path, mode: list[str]) -> None:
    command = ["sha256sum", *mode, "model_index.json", WEIGHTS]
    written = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    (folder / SUMS).write_text(written)
    check_sums("tiny", folder)
    (folder / SUMS).write_text(written + "and this\n")
    with pytest.raises(ModelError, match="SHA256SUMS: line 3 is not one of `sha256sum`"):
        check_sums("tiny", folder)


def test_a_folder_without_sums_is_let_pass(folder: Path) -> None:
    (folder / SUMS).unlink()
    (folder / WEIGHTS).unlink()
    check_sums("tiny", folder)

"""The four source roots hold nothing but their package, and hide no library of the same name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("root", ["queue", "kernels", "samplers"])
def test_no_module_directly_in_a_source_root(root: str) -> None:
    assert sorted((ROOT / root).glob("*.py")) == []


@pytest.mark.parametrize(
    "package", ["queue/videosvc_queue", "kernels/videosvc_kernels", "samplers/videosvc_samplers"]
)
def test_each_root_holds_its_typed_package(package: str) -> None:
    assert (ROOT / package / "__init__.py").is_file()
    assert (ROOT / package / "py.typed").is_file()


@pytest.mark.parametrize(
    "statement",
    [
        "import queue, sysconfig; assert queue.__file__.startswith(sysconfig.get_path('stdlib'))",
        "from diffusers import AnyFlowFARTransformer3DModel",
        "from transformers import UMT5EncoderModel",
    ],
)
def test_libraries_import_from_the_repository_root(statement: str) -> None:
    done = subprocess.run([sys.executable, "-c", statement], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

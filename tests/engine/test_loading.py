from __future__ import annotations

import os
from pathlib import Path

import pytest
from torch._inductor.runtime.cache_dir_utils import cache_dir, default_cache_dir

from videosvc.engine.loading import keep_compiled

NAME = "TORCHINDUCTOR_CACHE_DIR"


@pytest.mark.parametrize("before", [None, default_cache_dir()])
def test_compiled_code_is_kept_where_the_service_keeps_things(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    monkeypatch.setenv(NAME, str(before))  # which is put back after the test
    if before is None:
        del os.environ[NAME]
    keep_compiled(tmp_path)
    assert cache_dir() == os.environ[NAME] == str(tmp_path)


def test_a_folder_that_somebody_named_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, str(tmp_path / "theirs"))
    keep_compiled(tmp_path)
    assert os.environ[NAME] == str(tmp_path / "theirs")

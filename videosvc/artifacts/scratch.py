"""Where files are made before they are stored: on this machine, and gone with the process that makes them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from videosvc_queue.held_folder import make_held, remove_abandoned

PREFIX = "videosvc-work-"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Raises OSError."""
    folder, lock = make_held(Path(tempfile.gettempdir()), PREFIX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def tidy_scratch() -> None:
    """Removes what killed processes have left: tenants' clips and pictures, which nobody else knows of."""
    remove_abandoned(Path(tempfile.gettempdir()), PREFIX)

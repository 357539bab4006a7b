"""Folders that last as long as the process which made them, SIGKILL included: what it left behind is told apart, and
removed, by the next one."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path


def make_held(parent: Path, prefix: str) -> tuple[Path, int | None]:
    """A new folder with mode 0700, and the descriptor that holds it until that is closed, or this process has ended.
    None: the file system has no locks."""
    made = Path(tempfile.mkdtemp(prefix=f".{prefix}", dir=parent))
    lock = _hold(made)  # before it has its name, under which it would seem left behind
    return made.rename(made.with_name(made.name[1:])), lock


def remove_abandoned(parent: Path, prefix: str, known: Collection[str] | None = None) -> None:
    """Removes such folders that nobody holds any more; with `known` only those in which nothing else lies."""
    for left in parent.glob(f"{prefix}????????"):
        if (lock := _hold(left)) is not None:
            if known is None or set(known).issuperset(os.listdir(left)):
                shutil.rmtree(left, ignore_errors=True)
            os.close(lock)


def _hold(folder: Path) -> int | None:
    """A descriptor that holds it for as long as this process lives. None: somebody else does, or nobody can there."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor

"""A folder for files that come all at once, at the end of a long run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from videosvc.errors import UserError


def check_folder(folder: Path) -> Path:
    """The folder, if files can be written there, or it can be made. Raises UserError (output)."""
    try:
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        usable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    except OSError as error:
        raise UserError(f"output: {str(folder)[:40]!r}... cannot be a folder: {error.strerror}", "output") from error
    if not usable:
        says = "is not a folder" if not there.is_dir() else "cannot be written to"
        raise UserError(f"output: {str(there)!r} {says}", param="output")
    return folder


def write_files(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Each by its name, whole or not at all. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        temporary = folder / f".{name}.{os.getpid()}.part"
        try:
            temporary.write_bytes(content)
            temporary.replace(folder / name)
        finally:
            temporary.unlink(missing_ok=True)

"""Files that come whole at the end of a run, or not at all."""

from __future__ import annotations

from pathlib import Path

from videosvc.errors import UserError
from videosvc.pricing.output_folder import check_folder, write_files


def check_file(field: str, path: Path, suffix: str) -> None:
    """Raises UserError (`field`) if no file of this kind can be written there."""
    if path.suffix.lower() != suffix:
        raise UserError(f"{field}: {str(path)!r} must end in {suffix}", param=field)
    try:
        check_folder(path.parent)
        is_folder = path.is_dir()
    except UserError as error:
        raise UserError(f"{field}: {error.message.removeprefix('output: ')}", param=field) from error
    except OSError as error:
        raise UserError(f"{field}: {str(path)[:40]!r}... cannot be a file: {error.strerror}", param=field) from error
    if is_folder:
        raise UserError(f"{field}: {str(path)!r} is a folder; name a file", param=field)


def write_file(path: Path, content: bytes) -> None:
    """Raises OSError."""
    write_files(path.parent, {path.name: content})

"""Where the files of jobs are kept: a local folder, or any place fsspec knows, such as s3://bucket/prefix."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from videosvc.errors import ConfigError

INPUT = 0  # the fence of what a job starts from: attempts begin with 1
PIECE = 256 * 1024  # bytes; of a stream to a client
MEDIA_TYPES = {".mp4": "video/mp4", ".webp": "image/webp", ".jpg": "image/jpeg", ".png": "image/png"}
JOB_ID = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Artifact:
    """One stored file."""

    key: str  # "<job>/<fence>/<name>", below the store's root
    bytes: int
    etag: str  # SHA-256 of the content, in hex, without quotes
    media_type: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class ArtifactStore:
    """Files by key. A file is there whole or not at all, and is never changed once it is there.

    Every method raises OSError when the place does not answer.
    """

    def __init__(self, url: str) -> None:
        """`url`: "file:///folder", "s3://bucket/prefix". Raises ConfigError if fsspec cannot serve it."""
        try:
            # No listings from memory: others store as well, and a file that is not listed would not be removed.
            self._files, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise ConfigError(f"artifact_url = {url!r}: {error}", param="artifact_url") from error

    def put(self, job_id: str, fence: int, name: str, local: Path) -> Artifact:
        """Stores a copy of `local`. `fence` keeps an attempt that lost its lease from writing over its successor."""
        key = f"{_checked(job_id)}/{fence}/{name}"
        place = self._place(key)
        if isinstance(self._files, LocalFileSystem):
            _copy_durably(local, Path(place))
        else:
            with _os_errors():  # a bucket has no folders to make first, and the key may allow no more than this
                self._files.put_file(str(local), place)
        with local.open("rb") as file:
            etag = hashlib.file_digest(file, "sha256").hexdigest()
        return Artifact(key, local.stat().st_size, etag, MEDIA_TYPES[local.suffix])

    def size(self, key: str) -> int:
        """Bytes of a file. Raises FileNotFoundError."""
        with _os_errors():
            return int(self._files.size(self._place(key)))

    def open(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to, not including, `end`, in pieces. Raises FileNotFoundError at once."""
        with _os_errors():
            file = self._files.open(self._place(key), "rb")
        return _pieces(file, start, end)

    def delete(self, job_id: str) -> None:
        """Removes every file of a job; none is fine."""
        place = self._place(_checked(job_id))
        with contextlib.suppress(FileNotFoundError), _os_errors():
            self._files.rm(place, recursive=True)

    def jobs(self) -> list[str]:
        """The jobs that have files, by their names alone: whatever else is kept in the same place may look like one."""
        with contextlib.suppress(FileNotFoundError), _os_errors():  # nothing was ever stored
            return [name for name in self._names(self._root) if JOB_ID.fullmatch(name)]
        return []

    def has_only_input(self, job_id: str, before: float) -> bool:
        """Whether all that there is of a job is what it starts from, stored before then (Unix seconds)."""
        place = self._place(_checked(job_id))
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), _os_errors():
            if self._names(place) == [str(INPUT)] and self._files.isdir(f"{place}/{INPUT}"):
                files = self._files.find(f"{place}/{INPUT}")
                return bool(files) and all(self._files.modified(file).timestamp() < before for file in files)
        return False

    def _names(self, place: str) -> list[str]:
        """What lies in a folder."""
        return [entry.rstrip("/").rpartition("/")[2] for entry in self._files.ls(place, detail=False)]

    def _place(self, key: str) -> str:
        return f"{self._root}/{key}"


@contextlib.contextmanager
def _os_errors() -> Iterator[None]:
    """What a file system raises in words of its own (botocore's are plain Exceptions) as an OSError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def _checked(job_id: str) -> str:
    """Ids are ours, not a user's; but an empty one, or "..", would remove what belongs to others."""
    if not JOB_ID.fullmatch(job_id):
        raise ValueError(f"job_id: {job_id!r} is no id")
    return job_id


def _copy_durably(source: Path, target: Path) -> None:
    """Under a temporary name first; on the disk before the name is there, and the name before this returns."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with source.open("rb") as original, temporary.open("wb") as copy:
            shutil.copyfileobj(original, copy)
            copy.flush()
            os.fsync(copy.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _pieces(file: IO[bytes], start: int, end: int | None) -> Iterator[bytes]:
    with file:
        file.seek(start)
        left = end - start if end is not None else None
        while left is None or left > 0:
            with _os_errors():
                piece = file.read(PIECE if left is None else min(PIECE, left))
            if not piece:
                return
            yield piece
            left = None if left is None else left - len(piece)

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
    """Files by key. A file is there whole or not at all, and is never changed once it is there."""

    def __init__(self, url: str) -> None:
        """`url`: "file:///folder", "s3://bucket/prefix". Raises ConfigError if fsspec cannot serve it."""
        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise ConfigError(f"artifact_url = {url!r}: {error}", param="artifact_url") from error

    def put(self, job_id: str, fence: int, name: str, local: Path) -> Artifact:
        """Stores a copy of `local`. `fence` keeps an attempt that lost its lease from writing over its successor."""
        key = f"{_checked(job_id)}/{fence}/{name}"
        place = self._place(key)
        if isinstance(self._files, LocalFileSystem):
            _copy_durably(local, Path(place))
        else:
            self._files.makedirs(place.rpartition("/")[0], exist_ok=True)
            self._files.put_file(str(local), place)
        with local.open("rb") as file:
            etag = hashlib.file_digest(file, "sha256").hexdigest()
        return Artifact(key, local.stat().st_size, etag, MEDIA_TYPES[local.suffix])

    def size(self, key: str) -> int:
        """Bytes of a file. Raises FileNotFoundError."""
        return int(self._files.size(self._place(key)))

    def open(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to, not including, `end`, in pieces. Raises FileNotFoundError at once."""
        file = self._files.open(self._place(key), "rb")
        return _pieces(file, start, end)

    def delete(self, job_id: str) -> None:
        """Removes every file of a job; none is fine."""
        with contextlib.suppress(FileNotFoundError):
            self._files.rm(self._place(_checked(job_id)), recursive=True)

    def _place(self, key: str) -> str:
        return f"{self._root}/{key}"


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
            piece = file.read(PIECE if left is None else min(PIECE, left))
            if not piece:
                return
            yield piece
            left = None if left is None else left - len(piece)

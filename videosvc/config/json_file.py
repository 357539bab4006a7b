"""What this service measured and reads again: sections as JSON, whole or not at all."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TypeVar, cast

from pydantic import ValidationError

from videosvc.config.toml_file import FileState, Section, file_state
from videosvc.errors import ConfigError

SectionT = TypeVar("SectionT", bound=Section)


def read_json_file(path: Path, kind: type[SectionT]) -> SectionT | None:
    """None if there is no such file or it is damaged: either is mended by measuring anew.

    One that has not changed is not read again: a quote reads some, and there are many quotes a second.
    """
    try:
        return cast(SectionT, _read(path, kind, file_state(path)))
    except (ConfigError, OSError, ValidationError):
        return None


@lru_cache(maxsize=256)
def _read(path: Path, kind: type[Section], state: FileState) -> Section:
    return kind.model_validate_json(path.read_bytes())


def write_json_file(path: Path, section: Section) -> None:
    """Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_text(section.model_dump_json(indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)

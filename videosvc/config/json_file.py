"""What this service measured and reads again: sections as JSON, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from videosvc.config.toml_file import Section

SectionT = TypeVar("SectionT", bound=Section)


def read_json_file(path: Path, kind: type[SectionT]) -> SectionT | None:
    """None if there is no such file or it is damaged: either is mended by measuring anew."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def write_json_file(path: Path, section: Section) -> None:
    """Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_text(section.model_dump_json(indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)

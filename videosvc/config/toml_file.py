"""TOML into pydantic models; a mistake is told as one line: file, key, value, what is allowed."""

from __future__ import annotations

import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from videosvc.errors import ConfigError


class Section(BaseModel):
    """Base of everything read from a file: immutable, and an unknown key is a mistake, not a silence."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=BaseModel)
FileState = tuple[int, int, int]


def read_toml(path: Path) -> dict[str, Any]:
    """The file as plain tables. Raises ConfigError if it cannot be read or is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


def parse_toml(path: Path, model: type[Model]) -> Model:
    """Reads `path` as a `model`; a file that has not changed is not parsed again.

    Raises ConfigError naming file, key and value.
    """
    return cast(Model, _parsed(path, model, file_state(path)))


def file_state(path: Path) -> FileState:
    """What differs once the file has changed. Raises ConfigError if there is none."""
    try:
        state = path.stat()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    return state.st_mtime_ns, state.st_size, state.st_ino


@lru_cache(maxsize=256)  # a quote reads four files, and parsing them took half of its time
def _parsed(path: Path, model: type[BaseModel], state: FileState) -> BaseModel:
    try:
        return model.model_validate(read_toml(path))
    except ValidationError as error:
        key, message = first_problem(error, model)
        raise ConfigError(f"{path}: {message}", param=key) from error


def first_problem(error: ValidationError, model: type[BaseModel]) -> tuple[str, str]:
    """(key, "key = value: what is wrong") of the first mistake in `error`; one is enough to act on.

    A key that is unknown goes before one that is missing: that may be the same, mistyped.
    """
    problems = error.errors(include_url=False)
    problem = next((one for one in problems if one["type"] == "extra_forbidden"), problems[0])
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        allowed = ", ".join(_keys_beside(model, problem["loc"]))
        return key, f"{key}: unknown key; allowed here: {allowed}"
    if problem["type"] == "missing":
        return key, f"{key}: is missing"
    reason = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return key, f"{key} = {problem['input']!r}: {reason}"


def _keys_beside(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that the section holding `location` knows."""
    for part in location[:-1]:
        if not isinstance(part, str):  # an index into a list of sections
            continue
        kinds = [model.model_fields[part].annotation] if part in model.model_fields else []
        while kinds:  # unwrap tuple[Section, ...] and Section | None down to the section
            kind = kinds.pop()
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                model = kind
                break
            kinds.extend(getattr(kind, "__args__", ()))
    return sorted(field.alias or name for name, field in model.model_fields.items())

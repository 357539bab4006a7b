from __future__ import annotations

from pathlib import Path

import pytest

from videosvc.config.toml_file import Section, parse_toml
from videosvc.errors import ConfigError


class Inner(Section):
    count: int


class Outer(Section):
    inner: Inner
    many: tuple[Inner, ...] = ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("inner = ", "not valid TOML"),
        ("", "inner: is missing"),
        ("[inner]\ncount = 'x'", "inner.count = 'x'"),
        ("[inner]\ncount = 1\ncuont = 2", "inner.cuont: unknown key; allowed here: count"),
        ("[inner]\ncount = 1\n[[many]]\ncount = 1\nx = 2", "many.0.x: unknown key; allowed here: count"),
        ("[iner]\ncount = 1\n[inner]\ncount = 1", "iner: unknown key; allowed here: inner, many"),
        ("[inner]\ncuont = 1", "inner.cuont: unknown key; allowed here: count"),
    ],
)
def test_a_mistake_names_file_and_key(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        parse_toml(path, Outer)
    assert str(path) in caught.value.message
    assert says in caught.value.message
    assert "\n" not in caught.value.message


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        parse_toml(path, Outer)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        parse_toml(tmp_path / "none.toml", Outer)

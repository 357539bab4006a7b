from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from videosvc_kernels import read_weights, weight_file, write_weights


def weights() -> dict[str, Tensor]:
    return {
        "a.codes": torch.randint(-127, 128, (16, 8), dtype=torch.int8).t(),  # not contiguous
        "a.scale": torch.rand(16),
        "b.codes": torch.randn(4, 8).to(torch.float8_e4m3fn),
        "b.scale": torch.zeros(0),
    }


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def other_format(path: Path) -> None:
    text = json.dumps({"format": weight_file.FORMAT})[1:-1]
    content = path.read_bytes()
    assert text.replace(" ", "").encode() in content
    path.write_bytes(content.replace(text.replace(" ", "").encode(), b'"format":"0"'))


def test_comes_back_as_it_was(tmp_path: Path) -> None:
    path, wanted = tmp_path / "new" / "a.safetensors", weights()
    write_weights(path, "k", wanted)
    found = read_weights(path, "k")
    assert found is not None and found.keys() == wanted.keys()
    assert all(
        torch.equal(found[name].float(), tensor.float()) and found[name].dtype == tensor.dtype
        for name, tensor in wanted.items()
    )
    assert list(path.parent.iterdir()) == [path]


def test_one_of_another_key_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    assert read_weights(path, "k") is None
    write_weights(path, "k", weights())
    assert read_weights(path, "l") is None
    wanted = weights()
    write_weights(path, "l", wanted)  # takes the other's place
    found = read_weights(path, "l")
    assert found is not None and torch.equal(found["a.scale"], wanted["a.scale"])


@pytest.mark.parametrize("damage", [cut, flip_a_bit, other_format, Path.touch, lambda path: path.write_bytes(b"")])
def test_a_damaged_one_is_none(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = tmp_path / "a.safetensors"
    write_weights(path, "k", weights())
    whole = path.read_bytes()
    damage(path)
    assert (read_weights(path, "k") is None) == (path.read_bytes() != whole)


def test_a_write_that_fails_leaves_what_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    write_weights(path, "k", weights())
    whole = path.read_bytes()

    def full_disk(tensors: object, filename: Path, metadata: object) -> None:
        filename.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(weight_file, "save_file", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_weights(path, "k", weights())
    assert path.read_bytes() == whole and list(tmp_path.iterdir()) == [path]

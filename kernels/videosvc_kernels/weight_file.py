"""Quantised weights on disk, so that a worker need not measure and quantise again what it runs.

A file is written whole or not at all, several workers may write the same one, and one that is damaged is as good as
none.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FORMAT = "1"  # raised when what is kept, or how, becomes another


def read_weights(path: Path, key: str) -> dict[str, Tensor] | None:
    """Tensors by name, on the CPU. None if there is no file, or a damaged one, or one of another `key`."""
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    return tensors if about == _about(key, tensors) else None


def write_weights(path: Path, key: str, tensors: Mapping[str, Tensor]) -> None:
    """Puts the file in place of what may be there. `key`: what the weights were made from. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        save_file(kept, temporary, metadata=_about(key, kept))
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _about(key: str, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """A file's metadata. safetensors notices a file cut short, the checksum one whose bytes have changed."""
    checksum = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        checksum = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), checksum)
        checksum = zlib.crc32(tensor.view(torch.uint8).numpy().data, checksum)  # numpy knows no fp8
    return {"format": FORMAT, "key": key, "crc32": f"{checksum:08x}"}


def _sync(path: Path) -> None:
    """Waits until a file, or a folder's list of them, is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

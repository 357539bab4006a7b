"""Is a model folder whole? Read from file headers alone, before anything is loaded."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from videosvc.errors import ModelError

WEIGHTS = {  # by kind of component: the names its weights may have
    "diffusers": ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors.index.json"),
    "transformers": ("model.safetensors", "model.safetensors.index.json"),
}
MAX_SHIFT = 1000.0
TINY_DECODER = "tiny_decoder"  # of a folder beside vae/, made by training.tiny_decoder
HASH_SAMPLES = 64
HASH_SAMPLE_BYTES = 64 * 1024


def read_json(model: str, folder: Path, relative: str) -> dict[str, Any]:
    """A JSON object of the model folder. Raises ModelError naming the file."""
    path = folder / relative
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"model {model!r}: {relative} is missing in {folder}", param="model") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"model {model!r}: {relative} cannot be read ({error})", param="model") from error
    if not isinstance(content, dict):
        raise ModelError(f"model {model!r}: {relative} is not a JSON object", param="model")
    return content


def weight_files(model: str, folder: Path, component: str, kind: str) -> list[Path]:
    """The safetensors files of one component, each checked to be whole, as is its configuration.

    Raises ModelError naming the file.
    """
    read_json(model, folder, f"{component}/config.json")
    single, index = WEIGHTS[kind]
    if (folder / component / single).exists():
        names = [single]
    elif (folder / component / index).exists():
        shards = read_json(model, folder, f"{component}/{index}").get("weight_map", {})
        if not isinstance(shards, dict) or not shards or not all(isinstance(file, str) for file in shards.values()):
            raise ModelError(f"model {model!r}: {component}/{index} has no weight_map of file names", param="model")
        names = sorted(set(shards.values()))
    else:
        raise ModelError(f"model {model!r}: {component}/{single} is missing in {folder}", param="model")
    for name in names:
        _check_whole(model, folder, f"{component}/{name}")
    return [folder / component / name for name in names]


def schedule_shift(model: str, folder: Path) -> float:
    """The noise schedule's shift: UniPC's configuration calls it `flow_shift`, the flow schedulers' `shift`.

    Raises ModelError if it is no number above 0, or such that all steps but the last would be pure noise.
    """
    file = "scheduler/scheduler_config.json"
    config = read_json(model, folder, file)
    name = "flow_shift" if config.get("flow_shift") is not None else "shift"
    shift = config.get(name)
    if shift is None:
        return 1.0
    if not isinstance(shift, int | float) or not 0 < shift <= MAX_SHIFT:
        allowed = f"must be a number above 0, at most {MAX_SHIFT:g}"
        raise ModelError(f"model {model!r}: {file}: {name} = {shift!r} {allowed}", param="model")
    return float(shift)


def tiny_decoder_refusal(model: str, folder: Path) -> str | None:
    """Why `decode = "tiny"` cannot be, in one line; None if it can. Raises ModelError if its decoder is damaged."""
    if not (folder / TINY_DECODER).is_dir():
        return f"lever decode='tiny' cannot be: model {model!r} has no folder {TINY_DECODER}"
    weight_files(model, folder, TINY_DECODER, "diffusers")
    return None


def _check_whole(model: str, folder: Path, relative: str) -> None:
    """A safetensors file says in its header how long it must be."""
    path = folder / relative
    if not path.exists():
        raise ModelError(f"model {model!r}: {relative} is missing in {folder}", param="model")
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (header_bytes,) = struct.unpack("<Q", file.read(8))
            if header_bytes > size:
                raise ValueError(f"its header would have {header_bytes} bytes, the file has {size}")
            header = json.loads(file.read(header_bytes))
        needed = (
            8 + header_bytes + max((t["data_offsets"][1] for k, t in header.items() if k != "__metadata__"), default=0)
        )
        if size != needed:
            raise ValueError(f"{size} bytes instead of {needed}")
    except (OSError, struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"model {model!r}: {relative} is truncated or damaged ({error})", param="model") from error


def files_stamp(files: list[Path]) -> str:
    """Tells files from others of the same names: their sizes and times, which change with any byte written.

    For what is kept on one machine: a copy of the folder has other times.
    """
    stats = [(path.name, path.stat()) for path in files]
    return " ".join(f"{name}:{stat.st_size}:{stat.st_mtime_ns}" for name, stat in stats)


def model_hash(folder: Path, files: list[Path]) -> str:
    """Tells weights from other weights: configuration files in full, and samples of each weight file.

    Reading all of a 14B checkpoint would take as long as loading it, and training changes every block of a
    file. A tiny decoder is not among them: no latent depends on it, and what was measured without it still holds; nor
    are the scores that `training.toyworld.evaluate` writes beside the weights.
    """
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.json"), *folder.glob("*/*.json")]):
        if path.parent.name == TINY_DECODER or path.name == "probe.json":
            continue
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    for path in sorted(files):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder)} {size}".encode())
        with path.open("rb") as file:
            for sample in range(HASH_SAMPLES):
                file.seek(size * sample // HASH_SAMPLES)
                digest.update(file.read(HASH_SAMPLE_BYTES))
    return digest.hexdigest()

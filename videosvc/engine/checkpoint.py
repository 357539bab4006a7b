"""All a stopped clip needs to go on: little, as frame cache and decoder state follow from latents."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from videosvc.engine.plan import Plan
from videosvc_samplers import SamplerState

FORMAT = "2"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A clip between two steps. Its tensors are never written to, so it may be kept without a copy."""

    plan: Plan
    model_hash: str
    finished: tuple[Tensor, ...]  # each chunk's latents (1, C, T, h, w); the next is in work
    sampler: SamplerState | None  # of the chunk in work; None: not begun
    spent: Mapping[str, float]  # seconds by stage
    steps: tuple[int, ...] = ()  # of each finished chunk, and of the one in work once it is begun

    def save(self, path: Path) -> None:
        """Writes safetensors under a temporary name, then renames: never half a file under `path`."""
        tensors = {f"finished.{i}": latents.contiguous() for i, latents in enumerate(self.finished)}
        if self.sampler is not None:
            tensors |= {f"sampler.{name}": tensor for name, tensor in self.sampler.to_tensors().items()}
        metadata = {
            "format": FORMAT,
            "plan": json.dumps(self.plan.fields()),
            "model_hash": self.model_hash,
            "spent": json.dumps(dict(self.spent)),
            "steps": json.dumps(self.steps),
        }
        temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with temporary.open("wb") as file:
                file.write(save(tensors, metadata))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    @staticmethod
    def load(path: Path) -> Checkpoint:
        """Reads what `save` wrote, onto the CPU. Raises ValueError if that cannot be done."""
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
            if metadata.get("format") != FORMAT:
                raise ValueError(f"format {metadata.get('format')!r} is not {FORMAT!r}")
            state = {n.removeprefix("sampler."): t for n, t in tensors.items() if n.startswith("sampler.")}
            return Checkpoint(
                plan=Plan.parse(json.loads(metadata["plan"])),
                model_hash=metadata["model_hash"],
                finished=tuple(tensors[f"finished.{i}"] for i in range(len(tensors) - len(state))),
                sampler=SamplerState.from_tensors(state) if state else None,
                spent=json.loads(metadata["spent"]),
                steps=tuple(json.loads(metadata["steps"])),
            )
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"checkpoint {path}: cannot be used ({error})") from error

"""Measures a step of one model on each attention backend that this device has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from secrets import token_hex
from statistics import median

import torch

from videosvc.config.models import AttentionName, ModelEntry
from videosvc.config.size import Size
from videosvc.engine.generate import Engine
from videosvc.engine.plan import frames_of
from videosvc.errors import ModelError
from videosvc.families.attention_backend import MEASURED
from videosvc.families.attention_choice import AttentionChoice, installed
from videosvc.families.device_label import device_label
from videosvc.families.wan import Wan

ROUNDS = 5


@torch.inference_mode()
def measure_attention(
    engine: Engine, entry: ModelEntry, backends: Sequence[AttentionName] = MEASURED
) -> AttentionChoice:
    """Steps of the model's own size and length; the family is left with the fastest.

    Every round runs each backend once, so that a slow spell of the machine falls on all alike. `backends`: the first
    is one that every device has. Raises what it raises there.
    """
    family = engine.family
    assert isinstance(family, Wan)  # other families' entries say nothing of attention
    size, frames = Size.parse(entry.sizes[0]), frames_of(entry.defaults.seconds, entry.fps)
    spec = family.spec
    shape = (1, spec.channels, sum(spec.chunks(frames)), size.height // spec.spatial, size.width // spec.spatial)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(family.device)
    clip = family.open_clip(size.width, size.height, family.encode_text(token_hex(4), None), 1.0)
    took: dict[AttentionName, list[float]] = defaultdict(list)
    refused: dict[AttentionName, str] = {}
    for turn in range(1 + ROUNDS):
        for name in backends:
            if name in refused:
                continue
            try:
                family.attend_by(name)
                start = engine.clock()
                clip.denoise(latents, 1.0, 1.0)
                if family.device.type == "cuda":
                    torch.cuda.synchronize(family.device)
            except (ModelError, RuntimeError) as error:  # not installed, no kernel for this device or shape, no memory
                if name == backends[0]:
                    raise
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                refused[name] = reason.removeprefix(f"model {entry.name!r}: ")
                continue
            if turn:  # the first sets up kernels
                took[name].append(engine.clock() - start)
    choice = AttentionChoice(
        device=device_label(family.device),
        model=entry.name,
        size=str(size),
        frames=frames,
        versions=installed(),
        seconds={name: median(times) for name, times in took.items() if name not in refused},
        refused=refused,
    )
    family.attend_by(choice.best)
    return choice

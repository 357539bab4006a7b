"""Measures what a step costs each of several clips that are denoised together."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator
from secrets import token_hex
from statistics import median

import torch

from videosvc.config.models import ModelEntry
from videosvc.config.size import Size
from videosvc.engine.generate import Engine
from videosvc.engine.plan import Plan
from videosvc.families.base import Jump
from videosvc.pricing.batching import BatchShare

COMPANIES = (1, 2, 4)
ROUNDS = 8
LIMIT_S = 3.0  # a size: after a first round nothing new is begun later than this


@torch.inference_mode()
def batch_shares(engine: Engine, entry: ModelEntry, plan: Plan) -> tuple[BatchShare, ...]:
    """For every size of the model's list, with `plan`'s levers, in a second chunk.

    Every round runs each company once, so that a slow spell of the machine falls on all alike. A company that does not
    fit the device's memory is left out, and so are larger ones. Nothing of models whose clips are one chunk: they are
    denoised one after the other.
    """
    if engine.family.spec.whole:
        return ()
    return tuple(share for size in map(Size.parse, entry.sizes) for share in _shares(engine, plan, size))


def _shares(engine: Engine, plan: Plan, size: Size) -> Iterator[BatchShare]:
    family, spec = engine.family, engine.family.spec
    shape = (1, spec.channels, spec.chunk, size.height // spec.spatial, size.width // spec.spatial)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(family.device)
    jumps: list[Jump] = []
    with contextlib.suppress(torch.OutOfMemoryError):
        for _ in range(max(COMPANIES)):
            text = family.encode_text(token_hex(4), token_hex(4))
            clip = family.open_clip(size.width, size.height, text, plan.guidance_scale, plan.frame_cache)
            clip.append(latents)
            jumps.append(Jump(clip, latents, 1.0, 0.5))
    took: dict[int, list[float]] = defaultdict(list)
    companies = [clips for clips in COMPANIES if clips <= len(jumps)]
    begun = time.monotonic()
    for turn in range(1 + ROUNDS):
        if turn > 1 and time.monotonic() - begun > LIMIT_S:
            break
        for clips in list(companies):
            start = engine.clock()
            try:
                family.denoise_together(jumps[:clips])
                if family.device.type == "cuda":
                    torch.cuda.synchronize(family.device)
            except torch.OutOfMemoryError:
                companies = [fewer for fewer in companies if fewer < clips]
                break
            if turn:  # the first sets up kernels
                took[clips].append(engine.clock() - start)
    for clips in companies[1:]:
        yield BatchShare(size=str(size), clips=clips, share=median(took[clips]) / (clips * median(took[1])))

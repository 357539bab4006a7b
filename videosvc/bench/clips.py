"""One clip, from its prompt to the MP4, and what it took: through our engine, and through the stock pipeline."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_hex
from statistics import mean, median
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from videosvc.bench.stock import stock_frames, stock_latents
from videosvc.engine.events import ChunkDone, Done, StepDone
from videosvc.engine.generate import Engine, chunk_noise
from videosvc.engine.meter import Meter
from videosvc.engine.mux import Mp4Writer
from videosvc.engine.plan import Plan
from videosvc.families.base import Family

if TYPE_CHECKING:
    from diffusers import AnyFlowFARPipeline

APART = 10**6  # seeds of clips made at once, from one to the next: other rounds have none of them


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    compute_s: float
    latents: Tensor  # (1, C, T, h, w), on the CPU
    frames: Tensor  # (F, H, W, 3) uint8
    denoise_s: float | None = None  # of that
    step_s: float | None = None  # one step of the last chunk, which has all of its past in the frame cache


def make_ours(engine: Engine, plan: Plan, file: Path, text_s: float = 0.0) -> Made:
    """`text_s`: added, as the engine remembers a prompt that another row has had. Raises what `Engine.run` raises."""
    steps_s: dict[int, list[float]] = defaultdict(list)
    pictures: list[Tensor] = []
    latents: tuple[Tensor, ...] = ()
    denoised_s = 0.0
    for event in engine.run(plan, file):
        if isinstance(event, StepDone | ChunkDone):
            before_s, denoised_s = denoised_s, event.checkpoint.spent["denoise"]
            if isinstance(event, StepDone):
                steps_s[event.chunk].append(denoised_s - before_s)
            else:
                pictures.append(event.pictures)
                latents = event.checkpoint.finished
    assert isinstance(event, Done)
    return Made(
        compute_s=event.receipt.compute_seconds + text_s,
        latents=torch.cat(latents, dim=2).cpu(),
        frames=torch.cat(pictures),
        denoise_s=event.receipt.by_stage["denoise"],
        step_s=median(steps_s[max(steps_s)]),
    )


def make_together(engine: Engine, plan: Plan, folder: Path, clips: int, text_s: float = 0.0) -> Made:
    """The clip of `plan` in the company of others like it; its compute is the mean of all their shares."""

    def make(number: int) -> Made:
        return make_ours(engine, replace(plan, seed=plan.seed + number * APART), folder / f"{number}.mp4", text_s)

    with ThreadPoolExecutor(clips) as threads:
        made = list(threads.map(make, range(clips)))
    return replace(made[0], compute_s=mean(clip.compute_s for clip in made), denoise_s=None, step_s=None)


def make_stock(pipeline: AnyFlowFARPipeline, family: Family, plan: Plan, file: Path) -> Made:
    """The same noise, steps and guidance; `family` is ours, which knows how a clip is cut into chunks."""
    chunks = family.spec.chunks(plan.frames)
    noise = torch.cat([chunk_noise(plan, family.spec, number, size) for number, size in enumerate(chunks)], dim=2)
    negative = (plan.negative_prompt or "") if plan.guidance_scale > 1.0 else None
    size = (plan.width, plan.height)
    meter = Meter(family.device)
    with Mp4Writer(file, *size, plan.fps) as video:
        with meter.stage("denoise"):
            latents = stock_latents(
                pipeline, plan.prompt, negative, noise, chunks, size, plan.steps, plan.guidance_scale
            )
        with meter.stage("decode"):
            frames = stock_frames(pipeline, latents)[: plan.frames]
        with meter.stage("mux"):
            video.write(frames)
            video.finish()
    return Made(meter.total_s, latents.cpu(), frames)


@torch.inference_mode()
def encode_seconds(family: Family) -> float:
    """What a prompt takes that the family has never seen."""
    meter = Meter(family.device)
    with meter.stage("text"):
        family.encode_text(token_hex(4), None)
    return meter.total_s


def apart(some: Tensor, other: Tensor) -> float:
    """Root mean square of the difference, relative to `other`'s."""
    difference = torch.linalg.vector_norm(some.double() - other.double())
    return float(difference / torch.linalg.vector_norm(other.double()))

"""One job of any chunks through diffusers' own AnyFlowFARPipeline, and the same job through ours.

Tests compare the two, and `bench/` times them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import AnyFlowFARPipeline
from torch import Tensor

from videosvc.bench.stock import stock_frames, stock_latents
from videosvc.families.anyflow_far import AnyFlowFAR
from videosvc_samplers import SamplerState, flow_map, flow_sigmas

NEGATIVE = "the sea"  # only read under guidance


@dataclass(frozen=True)
class Job:
    prompt: str = "a red circle moves left"
    chunks: tuple[int, ...] = (2, 2)  # latents of each
    width: int = 128
    height: int = 128
    steps: int = 4
    guidance_scale: float = 1.0
    seed: int = 11

    def noise(self, channels: int) -> Tensor:
        shape = (1, channels, sum(self.chunks), self.height // 8, self.width // 8)
        return torch.randn(shape, generator=torch.Generator().manual_seed(self.seed))

    @property
    def negative(self) -> str | None:
        return NEGATIVE if self.guidance_scale > 1 else None


@dataclass(frozen=True)
class Made:
    latents: Tensor  # (1, C, T, h, w)
    frames: Tensor  # (4T, H, W, 3) uint8


@torch.inference_mode()
def ours(family: AnyFlowFAR, job: Job) -> Made:
    """Chunk by chunk, each one decoded as it lands."""
    text = family.encode_text(job.prompt, job.negative)
    clip = family.open_clip(job.width, job.height, text, job.guidance_scale)
    finished: list[Tensor] = []
    frames: list[Tensor] = []
    for noise in job.noise(family.spec.channels).split(job.chunks, dim=2):
        *_, state = flow_map(clip.denoise, SamplerState.start(noise), flow_sigmas(job.steps, family.shift))
        finished.append(state.latents)
        if len(finished) < len(job.chunks):  # nothing would read the last one's keys
            clip.append(state.latents)
        frames.append(clip.decode(state.latents))
    return Made(torch.cat(finished, dim=2), torch.cat(frames))


def stock(pipeline: AnyFlowFARPipeline, job: Job) -> Made:
    """All chunks, then the whole clip decoded at once."""
    latents = stock_latents(
        pipeline,
        job.prompt,
        job.negative,
        job.noise(pipeline.transformer.config.in_channels),
        job.chunks,
        (job.width, job.height),
        job.steps,
        job.guidance_scale,
    )
    return Made(latents, stock_frames(pipeline, latents))

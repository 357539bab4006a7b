"""The baseline: one job through diffusers' own AnyFlowFARPipeline, and the same job through ours.

Tests compare the two, and `bench/` times them.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AnyFlowFARPipeline, AnyFlowFARTransformer3DModel, FlowMapEulerDiscreteScheduler
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from videosvc.families.anyflow_far import AnyFlowFAR
from videosvc.families.causal_autoencoder import CausalConvAutoencoder
from videosvc.families.decoder import to_frames
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


def open_stock(folder: Path) -> AnyFlowFARPipeline:
    pipeline = AnyFlowFARPipeline(
        tokenizer=PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer"),
        text_encoder=UMT5EncoderModel.from_pretrained(folder / "text_encoder", torch_dtype=torch.float32),
        transformer=AnyFlowFARTransformer3DModel.from_pretrained(folder / "transformer", torch_dtype=torch.float32),
        vae=CausalConvAutoencoder.from_pretrained(folder / "vae", torch_dtype=torch.float32),
        scheduler=FlowMapEulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def stock(pipeline: AnyFlowFARPipeline, job: Job) -> Made:
    """All chunks, then the whole clip decoded at once.

    The pipeline thinks in Wan's frame counts, so it stops at latents; the bundled autoencoder decodes each
    latent to four frames.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "flex_attention called without torch.compile")
        latents: Tensor = pipeline(
            prompt=job.prompt,
            negative_prompt=job.negative,
            width=job.width,
            height=job.height,
            num_frames=(sum(job.chunks) - 1) * 4 + 1,
            num_inference_steps=job.steps,
            guidance_scale=job.guidance_scale,
            latents=job.noise(pipeline.transformer.config.in_channels),
            chunk_partition=list(job.chunks),
            max_sequence_length=pipeline.tokenizer.model_max_length,
            output_type="latent",
        ).frames
    vae = pipeline.vae
    mean, std = torch.tensor([vae.config.latents_mean, vae.config.latents_std])[:, None, :, None, None, None]
    with torch.inference_mode():
        video = vae.decode(latents * std + mean, return_dict=False)[0]
    return Made(latents, to_frames(video.clamp(-1.0, 1.0)))

"""The same weights, noise and prompt through diffusers' own pipeline.

Token counts here are multiples of 128 for a reason: the stock denoising step pads a chunk to the next one
with zero keys and no mask, so on any other size attention leaks into the padding (`test_stock_padding`).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from diffusers import AnyFlowFARPipeline, AnyFlowFARTransformer3DModel, FlowMapEulerDiscreteScheduler
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from tiny_model import MAX_TOKENS, make_tiny_checkpoint
from videosvc.families.anyflow_far import AnyFlowFAR
from videosvc.families.causal_autoencoder import CausalConvAutoencoder
from videosvc_samplers import SamplerState, flow_map, flow_sigmas

PROMPT, NEGATIVE = "a red circle moves left", "the sea"
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Job:
    chunks: tuple[int, ...] = (2, 2)
    width: int = 128
    height: int = 128
    steps: int = 4
    guidance_scale: float = 1.0

    @property
    def noise(self) -> Tensor:
        shape = (1, 16, sum(self.chunks), self.height // 8, self.width // 8)
        return torch.randn(shape, generator=torch.Generator().manual_seed(11))


def load(folder: Path, window_chunks: int | None = None) -> AnyFlowFAR:
    return AnyFlowFAR("tiny", folder, window_chunks, CPU, torch.float32)


@torch.inference_mode()
def ours(family: AnyFlowFAR, job: Job) -> Tensor:
    text = family.encode_text(PROMPT, NEGATIVE if job.guidance_scale > 1 else None)
    clip = family.open_clip(job.width, job.height, text, job.guidance_scale)
    finished = []
    for noise in job.noise.split(job.chunks, dim=2):
        *_, state = flow_map(clip.denoise, SamplerState.start(noise), flow_sigmas(job.steps, family.shift))
        clip.append(state.latents)
        finished.append(state.latents)
    return torch.cat(finished, dim=2)


def stock(folder: Path, job: Job) -> Tensor:
    pipeline = AnyFlowFARPipeline(
        tokenizer=PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer"),
        text_encoder=UMT5EncoderModel.from_pretrained(folder / "text_encoder"),
        transformer=AnyFlowFARTransformer3DModel.from_pretrained(folder / "transformer"),
        vae=CausalConvAutoencoder.from_pretrained(folder / "vae"),
        scheduler=FlowMapEulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
    )
    pipeline.set_progress_bar_config(disable=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "flex_attention called without torch.compile")
        latents: Tensor = pipeline(
            prompt=PROMPT,
            negative_prompt=NEGATIVE if job.guidance_scale > 1 else None,
            width=job.width,
            height=job.height,
            num_frames=(sum(job.chunks) - 1) * 4 + 1,
            num_inference_steps=job.steps,
            guidance_scale=job.guidance_scale,
            latents=job.noise,
            chunk_partition=list(job.chunks),
            max_sequence_length=MAX_TOKENS,
            output_type="latent",
        ).frames
    return latents


@pytest.mark.parametrize(
    "job",
    [
        Job(),
        Job(guidance_scale=3.0),
        Job(chunks=(2, 2, 2)),
        Job(chunks=(2, 2, 2), guidance_scale=3.0),
        Job(chunks=(1, 3, 2), width=256),
    ],
    ids=str,
)
def test_same_latents(causal_folder: Path, job: Job) -> None:
    difference = (ours(load(causal_folder), job) - stock(causal_folder, job)).abs().max().item()
    assert difference < 1e-5  # measured: 7e-7 without guidance, 1.2e-6 with


def test_chunks_see_those_before(causal_folder: Path) -> None:
    """Else the comparison above would say nothing about the cache."""
    together = ours(load(causal_folder), Job())
    family = load(causal_folder)
    with torch.inference_mode():
        clip = family.open_clip(128, 128, family.encode_text(PROMPT, None), 1.0)
        start = SamplerState.start(Job().noise[:, :, 2:])
        *_, state = flow_map(clip.denoise, start, flow_sigmas(4))
    assert (state.latents - together[:, :, 2:]).abs().max() > 1e-2


def test_past_the_full_chunk_limit_it_is_close(causal_folder: Path) -> None:
    """From the fourth chunk on the full chunks' keys are not encoded anew when an older one turns coarse."""
    job = Job(chunks=(2,) * 6)
    difference = (ours(load(causal_folder), job) - stock(causal_folder, job)).abs()
    assert difference[:, :, :6].max() < 1e-5
    # Measured: 6e-4 at most, 1e-4 rms; latents have 1.2 rms, and forgetting the older chunks costs 8e-3 rms.
    assert 1e-5 < difference[:, :, 6:].max() < 2e-3


def test_coarse_chunks_alone_are_exact(tmp_path: Path) -> None:
    """With a limit of 2 only the newest chunk is full, and it is never older than its keys: all is exact."""
    folder = make_tiny_checkpoint(tmp_path / "limit2", full_chunk_limit=2)
    job = Job(chunks=(2,) * 5)
    difference = (ours(load(folder), job) - stock(folder, job)).abs().max().item()
    assert difference < 1e-5


def test_stock_padding(causal_folder: Path) -> None:
    """At 64x64 a chunk has 32 tokens; the stock step adds 96 zero keys to its softmax, we add none."""
    job = Job(width=64, height=64)
    assert (ours(load(causal_folder), job) - stock(causal_folder, job)).abs().max() > 1e-3

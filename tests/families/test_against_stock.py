"""The same weights, noise and prompt through diffusers' own pipeline.

Token counts here are multiples of 128 for a reason: the stock denoising step pads a chunk to the next one
with zero keys and no mask, so on any other size attention leaks into the padding (`test_stock_padding`).
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stock_pipeline import Job, ours, stock
from tiny_model import make_tiny_checkpoint
from videosvc.bench.stock import open_stock
from videosvc.families.anyflow_far import AnyFlowFAR
from videosvc_samplers import SamplerState, flow_map, flow_sigmas

CPU = torch.device("cpu")


def load(folder: Path, window_chunks: int | None = None) -> AnyFlowFAR:
    return AnyFlowFAR("tiny", folder, window_chunks, CPU, torch.float32)


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
    here, there = ours(load(causal_folder), job), stock(open_stock(causal_folder, CPU), job)
    difference = (here.latents - there.latents).abs().max().item()
    assert difference < 1e-5  # measured: 7e-7 without guidance, 1.2e-6 with
    assert (here.frames.int() - there.frames.int()).abs().max() <= 1  # a level of 255, where rounding falls


def test_chunks_see_those_before(causal_folder: Path) -> None:
    """Else the comparison above would say nothing about the cache."""
    together = ours(load(causal_folder), Job()).latents
    family = load(causal_folder)
    with torch.inference_mode():
        clip = family.open_clip(128, 128, family.encode_text(Job().prompt, None), 1.0)
        start = SamplerState.start(Job().noise(16)[:, :, 2:])
        *_, state = flow_map(clip.denoise, start, flow_sigmas(4))
    assert (state.latents - together[:, :, 2:]).abs().max() > 1e-2


def test_past_the_full_chunk_limit_it_is_close(causal_folder: Path) -> None:
    """From the fourth chunk on the full chunks' keys are not encoded anew when an older one turns coarse."""
    job = Job(chunks=(2,) * 6)
    there = stock(open_stock(causal_folder, CPU), job).latents
    difference = (ours(load(causal_folder), job).latents - there).abs()
    assert difference[:, :, :6].max() < 1e-5
    # Measured: 6e-4 at most, 1e-4 rms; latents have 1.2 rms, and forgetting the older chunks costs 8e-3 rms.
    assert 1e-5 < difference[:, :, 6:].max() < 2e-3


def test_coarse_chunks_alone_are_exact(tmp_path: Path) -> None:
    """With a limit of 2 only the newest chunk is full, and it is never older than its keys: all is exact."""
    folder = make_tiny_checkpoint(tmp_path / "limit2", full_chunk_limit=2)
    job = Job(chunks=(2,) * 5)
    difference = ours(load(folder), job).latents - stock(open_stock(folder, CPU), job).latents
    assert difference.abs().max() < 1e-5


def test_stock_padding(causal_folder: Path) -> None:
    """At 64x64 a chunk has 32 tokens; the stock step adds 96 zero keys to its softmax, we add none."""
    job = Job(width=64, height=64)
    difference = ours(load(causal_folder), job).latents - stock(open_stock(causal_folder, CPU), job).latents
    assert difference.abs().max() > 1e-3

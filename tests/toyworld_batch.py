"""A transformer that is quick to run, and batches for it."""

from __future__ import annotations

import torch
from diffusers import AnyFlowFARTransformer3DModel

from training.toyworld.flow import Batch
from training.toyworld.world import Scene, Thing

CHANNELS = 6


def small_transformer(channels: int = CHANNELS, text_width: int = 16) -> AnyFlowFARTransformer3DModel:
    return AnyFlowFARTransformer3DModel(
        num_attention_heads=2, attention_head_dim=24, num_layers=2, ffn_dim=64, in_channels=channels,
        out_channels=channels, text_dim=text_width, freq_dim=32, full_chunk_limit=3, chunk_partition=(2, 2),
    )  # fmt: skip


def batch_of(kind: str, count: int = 4) -> Batch:
    """Opening chunks that a thing of this kind covers all of."""
    scene = Scene((Thing(kind, "red", "small", "still", 0.5, 0.5),), "sky")
    covered = torch.ones(count, 1, 2, 4, 6, dtype=torch.bool)
    return Batch(torch.randn(count, CHANNELS, 2, 4, 6), covered, None, torch.randn(count, 32, 16), count * [scene])

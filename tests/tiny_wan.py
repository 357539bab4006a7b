"""A whole bidirectional Wan folder with random weights, and diffusers' own pipeline on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tiny_model import VOCABULARY, save_tokenizer
from videosvc.engine.events import ChunkDone, Event

SHIFT = 3.0


def make_tiny_wan(folder: Path, layers: int = 3) -> Path:
    """Saves a model of random weights under `folder`, and returns it."""
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    state = torch.random.get_rng_state()
    torch.manual_seed(7)
    transformer = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=24,
        in_channels=16,
        out_channels=16,
        text_dim=16,
        freq_dim=32,
        ffn_dim=64,
        num_layers=layers,
    )
    encoder = UMT5EncoderModel(
        UMT5Config(
            vocab_size=len(VOCABULARY) + 3, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0
        )
    )
    autoencoder = AutoencoderKLWan(
        base_dim=4,
        num_res_blocks=1,
        latents_mean=[0.1 * i for i in range(16)],
        latents_std=[1.0 + 0.1 * i for i in range(16)],
    )
    torch.random.set_rng_state(state)
    transformer.save_pretrained(folder / "transformer")
    encoder.save_pretrained(folder / "text_encoder")
    autoencoder.save_pretrained(folder / "vae")
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFT)
    scheduler.save_pretrained(folder / "scheduler")
    save_tokenizer(folder / "tokenizer")
    index = {
        "_class_name": "WanPipeline",
        "boundary_ratio": None,
        "expand_timesteps": False,
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "transformer_2": [None, None],
        "vae": ["diffusers", "AutoencoderKLWan"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def stock_pipeline(folder: Path, sampler: str, sigmas: tuple[float, ...]) -> Any:
    """At our noise levels, which diffusers' schedulers space a little differently, and with exact times: its UniPC
    rounds them down to whole thousandths."""
    from diffusers import (
        AutoencoderKLWan,
        FlowMatchEulerDiscreteScheduler,
        UniPCMultistepScheduler,
        WanPipeline,
        WanTransformer3DModel,
    )
    from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

    class UniPC(UniPCMultistepScheduler):
        def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
            super().set_timesteps(device=device, sigmas=np.array(sigmas[:-1]))
            self.timesteps = torch.tensor(sigmas[:-1]) * 1000

    class Euler(FlowMatchEulerDiscreteScheduler):
        def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
            super().set_timesteps(device=device, sigmas=list(sigmas[:-1]))

    unipc = UniPC(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0)
    pipeline = WanPipeline(
        tokenizer=PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer"),
        text_encoder=UMT5EncoderModel.from_pretrained(folder / "text_encoder"),
        transformer=WanTransformer3DModel.from_pretrained(folder / "transformer"),
        vae=AutoencoderKLWan.from_pretrained(folder / "vae"),
        scheduler=unipc if sampler == "unipc" else Euler(shift=1.0),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def latents_of(events: list[Event]) -> Tensor:
    """Of a clip of one chunk."""
    (done,) = (event for event in events if isinstance(event, ChunkDone))
    return done.checkpoint.finished[0]

"""The baseline: diffusers' own `AnyFlowFARPipeline` on the same folder, as somebody would run it who has read its docs.

Float32, every chunk's prefix encoded anew, two forwards a step under guidance, one decode at the end.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from videosvc.errors import GenerationError, ModelError
from videosvc.families.decoder import to_frames
from videosvc.families.prompt_length import WAN_MAX_TOKENS

if TYPE_CHECKING:
    from diffusers import AnyFlowFARPipeline


def open_stock(folder: Path, device: torch.device) -> AnyFlowFARPipeline:
    """Loads a checkpoint that our family has loaded before: nothing in it is checked again.

    Raises ModelError if it cannot be, for want of memory, or because this pipeline needs more than our family does.
    """
    from diffusers import AnyFlowFARPipeline, AnyFlowFARTransformer3DModel, FlowMapEulerDiscreteScheduler
    from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

    try:
        pipeline = AnyFlowFARPipeline(
            tokenizer=PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer"),
            text_encoder=UMT5EncoderModel.from_pretrained(folder / "text_encoder", torch_dtype=torch.float32),
            transformer=AnyFlowFARTransformer3DModel.from_pretrained(folder / "transformer", torch_dtype=torch.float32),
            vae=_autoencoder_class(folder).from_pretrained(folder / "vae", torch_dtype=torch.float32),
            scheduler=FlowMapEulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
        ).to(device)
    except Exception as error:  # what loaders and devices raise comes in many types
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"it cannot be loaded: {reason}", param="model") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def stock_latents(
    pipeline: AnyFlowFARPipeline,
    prompt: str,
    negative_prompt: str | None,
    noise: Tensor,
    chunks: Sequence[int],
    size: tuple[int, int],
    steps: int,
    guidance_scale: float,
) -> Tensor:
    """Latents `(1, C, T, h, w)` from `noise` of that shape. `chunks`: latents of each; `size`: width, height in pixels.

    The pipeline thinks in Wan's frame counts, which the bundled autoencoder does not share: it stops at latents.
    Raises GenerationError if there are too few chunks for it.
    """
    least = pipeline.transformer.config.full_chunk_limit - 1  # with fewer, its coarse cache has a size below 0
    if len(chunks) < least:
        raise GenerationError(f"it makes no clip of fewer than {least} chunks, and this one has {len(chunks)}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "flex_attention called without torch.compile")
        latents: Tensor = pipeline(
            prompt=prompt,
            negative_prompt=negative_prompt,
            width=size[0],
            height=size[1],
            num_frames=(sum(chunks) - 1) * 4 + 1,
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            latents=noise.to(pipeline.transformer.device),
            chunk_partition=list(chunks),
            max_sequence_length=min(pipeline.tokenizer.model_max_length, WAN_MAX_TOKENS),
            output_type="latent",
        ).frames
    return latents


@torch.inference_mode()
def stock_frames(pipeline: AnyFlowFARPipeline, latents: Tensor) -> Tensor:
    """The whole clip decoded at once: frames `(T, H, W, 3)`, uint8, on the CPU."""
    vae = pipeline.vae
    statistics = torch.tensor([vae.config.latents_mean, vae.config.latents_std], device=latents.device)
    mean, std = statistics[:, None, :, None, None, None]
    video = vae.decode(latents * std + mean, return_dict=False)[0]
    return to_frames(video.clamp(-1.0, 1.0))


def _autoencoder_class(folder: Path) -> Any:
    from diffusers import AutoencoderKLWan

    from videosvc.families.causal_autoencoder import CausalConvAutoencoder

    kind = json.loads((folder / "vae" / "config.json").read_text())["_class_name"]
    return AutoencoderKLWan if kind == "AutoencoderKLWan" else CausalConvAutoencoder

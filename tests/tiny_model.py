"""A whole model folder of the right layout with random weights: seconds to make, a few hundred kilobytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch

VOCABULARY = ("a", "red", "blue", "circle", "square", "moves", "left", "right", "over", "the", "sky", "sea")
MAX_TOKENS = 12


def make_tiny_checkpoint(
    folder: Path,
    vae: Literal["causal", "wan"] = "causal",
    chunk_partition: tuple[int, ...] = (2, 2),
    shift: float = 1.0,
    full_chunk_limit: int = 3,
) -> Path:
    """Saves a model of random weights under `folder`, and returns it."""
    from diffusers import AnyFlowFARTransformer3DModel, AutoencoderKLWan, FlowMapEulerDiscreteScheduler
    from transformers import UMT5Config, UMT5EncoderModel

    from videosvc.families.causal_autoencoder import CausalConvAutoencoder

    state = torch.random.get_rng_state()
    torch.manual_seed(7)
    transformer = AnyFlowFARTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=24,
        in_channels=16,
        out_channels=16,
        text_dim=16,
        freq_dim=32,
        ffn_dim=64,
        num_layers=2,
        full_chunk_limit=full_chunk_limit,
        chunk_partition=chunk_partition,
    )
    encoder = UMT5EncoderModel(
        UMT5Config(
            vocab_size=len(VOCABULARY) + 3,
            d_model=16,
            d_kv=8,
            d_ff=32,
            num_layers=1,
            num_heads=2,
            dropout_rate=0.0,
        )
    )
    statistics = {
        "latents_mean": [0.1 * i for i in range(16)],
        "latents_std": [1.0 + 0.1 * i for i in range(16)],
    }
    autoencoder = (
        CausalConvAutoencoder(encoder_channels=(8, 8), decoder_channels=(8, 8), blocks=1, **statistics)
        if vae == "causal"
        else AutoencoderKLWan(base_dim=4, num_res_blocks=1, **statistics)
    )
    with torch.no_grad():
        # Memory blocks start at zero, which would hide a lost state.
        for parameter in autoencoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    torch.random.set_rng_state(state)

    transformer.save_pretrained(folder / "transformer")
    encoder.save_pretrained(folder / "text_encoder")
    autoencoder.save_pretrained(folder / "vae")
    FlowMapEulerDiscreteScheduler(shift=shift).save_pretrained(folder / "scheduler")
    save_tokenizer(folder / "tokenizer")
    index = {
        "_class_name": "AnyFlowFARPipeline",
        "scheduler": ["diffusers", "FlowMapEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "transformer": ["diffusers", "AnyFlowFARTransformer3DModel"],
        "vae": ["diffusers" if vae == "wan" else "videosvc", type(autoencoder).__name__],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def add_tiny_decoder(folder: Path) -> Path:
    """Saves a tiny decoder of random weights into a model's folder, and returns that."""
    from videosvc.families.causal_autoencoder import CausalConvAutoencoder
    from videosvc.families.checks import TINY_DECODER

    state = torch.random.get_rng_state()
    torch.manual_seed(8)
    decoder = CausalConvAutoencoder(encoder_channels=(), decoder_channels=(8, 4), blocks=1)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    torch.random.set_rng_state(state)
    decoder.save_pretrained(folder / TINY_DECODER)
    return folder


def save_tokenizer(folder: Path) -> None:
    """Of the words in `VOCABULARY`."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ("<pad>", "</s>", "<unk>")
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate((*special, *VOCABULARY))}, "<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=MAX_TOKENS,
    ).save_pretrained(folder)

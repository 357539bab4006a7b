"""A Wan of random weights, as a folder that our family and diffusers load alike: how fast it is they do not change.

Its text encoder is of one small layer and of the right width, as nothing that is timed waits for text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videosvc.config.models import ModelDefaults, ModelEntry

CHANNELS, SPATIAL, TEMPORAL, PATCH = 16, 8, 4, 2  # of latents; pixels and frames of one; latents of a token, a side
FPS = 16
SHIFT = 3.0  # what Wan takes at 480p


@dataclass(frozen=True, slots=True)
class WanShape:
    """That of a transformer, its autoencoder and a clip."""

    layers: int
    heads: int
    head_size: int
    hidden: int  # of the feed-forward
    text_size: int  # numbers that a token of text has
    text_tokens: int
    decoder_base: int  # channels of the autoencoder's outermost layers
    decoder_blocks: int  # residual ones a resolution
    width: int  # pixels, as is height
    height: int
    frames: int

    @property
    def channels(self) -> int:
        return self.heads * self.head_size

    @property
    def latents(self) -> int:
        return 1 + (self.frames - 1) // TEMPORAL

    @property
    def tokens(self) -> int:
        return self.latents * (self.width // SPATIAL // PATCH) * (self.height // SPATIAL // PATCH)

    @property
    def linear_operations(self) -> int:
        """Of a forward, in its blocks' linear layers, the text's too: those that low-bit weights are about."""
        a_token, a_text_token = 6 * self.channels**2 + 2 * self.channels * self.hidden, 2 * self.channels**2
        return 2 * self.layers * (self.tokens * a_token + self.text_tokens * a_text_token)

    @property
    def attention_operations(self) -> int:
        """Of a forward, in attention's products: to all tokens, and to the text's."""
        return 4 * self.layers * self.tokens * (self.tokens + self.text_tokens) * self.channels

    @property
    def operations(self) -> int:
        """Of a forward; what is outside the blocks is next to nothing."""
        return self.linear_operations + self.attention_operations

    def noise(self, seed: int, device: torch.device) -> Tensor:
        """Latents `(1, C, T, h, w)`, float32, the same on every device."""
        shape = (1, CHANNELS, self.latents, self.height // SPATIAL, self.width // SPATIAL)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)


WAN_1_3B = WanShape(
    layers=30,
    heads=12,
    head_size=128,
    hidden=8960,
    text_size=4096,
    text_tokens=512,
    decoder_base=96,
    decoder_blocks=2,
    width=832,
    height=480,
    frames=81,
)


def parts(shape: WanShape) -> dict[str, Any]:
    """Those that have weights, by their folder's name, on torch's default device."""
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    transformer = WanTransformer3DModel(
        num_attention_heads=shape.heads,
        attention_head_dim=shape.head_size,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        text_dim=shape.text_size,
        ffn_dim=shape.hidden,
        num_layers=shape.layers,
    )
    vae = AutoencoderKLWan(base_dim=shape.decoder_base, num_res_blocks=shape.decoder_blocks)
    config = UMT5Config(vocab_size=3, d_model=shape.text_size, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    return {"transformer": transformer, "vae": vae, "text_encoder": UMT5EncoderModel(config)}


def write_model(folder: Path, shape: WanShape, device: torch.device, seed: int) -> ModelEntry:
    """Draws the weights on `device`, saves them in bfloat16 (3 GB for `WAN_1_3B`), and says how they are loaded."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    with torch.random.fork_rng(devices=[]), device:
        torch.manual_seed(seed)
        drawn = parts(shape)
    for name, part in drawn.items():
        for parameter in part.parameters():  # part.to() warns: some layers want float32, in which they will be loaded
            parameter.data = parameter.data.bfloat16()
        part.save_pretrained(folder / name)
    FlowMatchEulerDiscreteScheduler(shift=SHIFT).save_pretrained(folder / "scheduler")
    _save_tokenizer(folder / "tokenizer", shape.text_tokens)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline"}))
    return ModelEntry(
        name="wan-random",
        path=str(folder),
        family="wan",
        sizes=(f"{shape.width}x{shape.height}",),
        min_side=min(shape.width, shape.height),
        max_side=max(shape.width, shape.height),
        fps=FPS,
        defaults=ModelDefaults(seconds=shape.frames / FPS),
    )


def _save_tokenizer(folder: Path, most: int) -> None:
    """Of one that knows no word, and reads `most` tokens."""
    from tokenizers import Tokenizer, models, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2}, "<unk>"))
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=most, **special).save_pretrained(folder)

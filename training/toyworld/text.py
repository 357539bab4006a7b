"""Makes the word-level tokenizer and trains the text encoder to say, of each caption, what its scene contains.

Trained on its own first and then frozen, it hands the video model embeddings from which every attribute can be read,
which is what lets a nine-million-parameter model follow captions after a few thousand steps.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from training.toyworld.captions import ATTRIBUTES, attributes, caption, held_out, vocabulary
from training.toyworld.progress import Stage, learning_rate
from training.toyworld.world import Scene, sample_scene

MAX_WORDS = 32


def make_tokenizer() -> PreTrainedTokenizerFast:
    special = ["<pad>", "</s>", "<unk>"]
    vocab = {word: i for i, word in enumerate([*special, *vocabulary()])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"[^\p{L}\p{N}]+"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=MAX_WORDS,
    )


def make_text_encoder(vocab_size: int) -> UMT5EncoderModel:
    config = UMT5Config(
        vocab_size=vocab_size, d_model=128, d_kv=32, d_ff=256, num_layers=2, num_heads=4, dropout_rate=0.0,
        relative_attention_num_buckets=16, relative_attention_max_distance=32,
    )  # fmt: skip
    return UMT5EncoderModel(config)


class AttributeReader(nn.Module):
    """One attention query for each attribute, then a linear classifier; only used to train the encoder."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(len(ATTRIBUTES), width) / width**0.5)
        self.key = nn.Linear(width, width)
        self.heads = nn.ModuleList([nn.Linear(width, len(values)) for values in ATTRIBUTES.values()])

    def forward(self, embeds: Tensor, mask: Tensor) -> list[Tensor]:
        scores = (self.queries @ self.key(embeds).transpose(1, 2)).masked_fill(~mask[:, None], -torch.inf)
        pooled = scores.softmax(-1) @ embeds  # (B, attributes, D)
        return [head(pooled[:, i]) for i, head in enumerate(self.heads)]


@torch.no_grad()
def embed(encoder: UMT5EncoderModel, tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> Tensor:
    """(B, 32, D) with zeros after the last word, as diffusers' Wan pipelines hand them to the transformer."""
    batch = tokenizer(texts, padding="max_length", max_length=MAX_WORDS, truncation=True, return_tensors="pt")
    device = encoder.device
    mask = batch.attention_mask.to(device)
    states = encoder(batch.input_ids.to(device), mask).last_hidden_state
    embeds: Tensor = states * mask[..., None]
    return embeds


def train(folder: Path, budget_s: float, seed: int = 1) -> tuple[UMT5EncoderModel, PreTrainedTokenizerFast]:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = make_tokenizer()
    encoder = make_text_encoder(len(tokenizer)).to(device)
    reader = AttributeReader(encoder.config.d_model).to(device)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *reader.parameters()], lr=1e-3)
    stage = Stage(folder, "text", budget_s, {"encoder": encoder, "reader": reader, "optimizer": optimizer})
    for step, done in stage:
        scenes: list[Scene] = []
        while len(scenes) < 96:
            scene = sample_scene(rng)
            if not held_out(scene):
                scenes.append(scene)
        texts = [caption(scene, rng) for scene in scenes]
        batch = tokenizer(texts, padding=True, return_tensors="pt").to(device)
        mask = batch.attention_mask.bool()
        states = encoder(batch.input_ids, batch.attention_mask).last_hidden_state
        logits = reader(states, mask)
        truth = torch.tensor([attributes(scene) for scene in scenes], device=device).T
        loss = sum((F.cross_entropy(guess, said) for guess, said in zip(logits, truth, strict=True)), torch.zeros(()))
        optimizer.param_groups[0]["lr"] = learning_rate(done, 2e-3, step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        hits = [(guess.argmax(-1) == said).float().mean() for guess, said in zip(logits, truth, strict=True)]
        right = torch.stack(hits)
        stage.log(loss=loss.item(), accuracy=right.mean().item(), worst=right.min().item())
    return encoder.eval().requires_grad_(False), tokenizer

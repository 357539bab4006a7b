"""Trains the causal transformer by flow matching, each chunk seeing the clean chunk before it (teacher forcing).

The forward is the one that serves: `FarForward` over diffusers' `AnyFlowFARTransformer3DModel`, a chunk at a time.
Flow matching, arXiv 2210.02747; FAR, arXiv 2503.19325.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch
from diffusers import AnyFlowFARTransformer3DModel
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from training.precision import mixed_precision
from training.toyworld import vocabulary as words
from training.toyworld.captions import caption
from training.toyworld.latents import CHUNK, Latents
from training.toyworld.progress import Stage, learning_rate
from training.toyworld.text import embed
from training.toyworld.world import Scene
from videosvc.families.far_attention import KeyValue, Memory
from videosvc.families.far_forward import TIME_SCALE, FarForward

BATCH_TOKENS = 1536  # noisy tokens a step, whatever the clips' size
SIZE_WEIGHTS = {64: 10, 96: 6, 128: 3}
SMALL_ONLY = 0.78  # of the budget: where things go is learnt at the smallest size first, then carried over
OPENING_SHARE = 0.8  # of the batches: a chunk that follows one is the easier half, and twice the work
# How often a scene is drawn: what a model of 14,000 steps still drew wrong (300 clips; spinning things, 56 %).
EXTRA = dict.fromkeys((*words.SPINNERS, "circle", "boat"), 1.6) | {"spins": 4.0, "right": 1.5}
THING_WEIGHT = 4.0
CAPTION_DROPOUT = 0.1
CONTEXT_NOISE = 0.06  # on the chunk before, which at work is generated and not perfect
EMA = 0.998


@dataclass(frozen=True, slots=True)
class Batch:
    """`latents`: (B, C, 2, h, w), the chunk to learn. `context`: the chunk before it, or None. `embeds`: (B, 32, D).

    `covered`: (B, 1, 2, h, w) bool, where a thing shows in `latents`. `scenes`: the clips'.
    """

    latents: Tensor
    covered: Tensor
    context: Tensor | None
    embeds: Tensor
    scenes: list[Scene]

    def mean_shown(self, each: Tensor) -> Tensor:
        """Of a figure for each chunk, (B,): the mean over those in which a thing shows; 0 if none does."""
        shown = self.covered.flatten(1).any(1)
        return (each * shown).sum() / shown.sum().clamp(min=1)


def make_transformer(latent_channels: int, text_width: int) -> AnyFlowFARTransformer3DModel:
    """9.3 M parameters; `chunk_partition` says one second a chunk."""
    return AnyFlowFARTransformer3DModel(
        num_attention_heads=8, attention_head_dim=32, num_layers=8, ffn_dim=1024, in_channels=latent_channels,
        out_channels=latent_channels, text_dim=text_width, freq_dim=256, full_chunk_limit=3,
        chunk_partition=(CHUNK, CHUNK), rope_max_seq_len=256,
    )  # fmt: skip


def emphasis(scene: Scene) -> float:
    """How much oftener than the easiest this scene is drawn."""
    return max(EXTRA.get(thing.kind, 1.0) * EXTRA.get(thing.motion, 1.0) for thing in scene.things)


class Batches:
    """Draws batches: one size each, and either opening chunks or chunks that follow one."""

    def __init__(
        self,
        latents: dict[int, Latents],
        encoder: UMT5EncoderModel,
        tokenizer: PreTrainedTokenizerFast,
        rng: random.Random,
        device: str,
        emphasis: Callable[[Scene], float] = emphasis,
    ) -> None:
        """`emphasis`: how often a scene is drawn, beside others."""
        self.latents, self.encoder, self.tokenizer, self.rng, self.device = latents, encoder, tokenizer, rng, device
        # By size and whether only openings are drawn: clips, and their weights' running sums.
        self.pools: dict[tuple[int, bool], tuple[list[int], list[float]]] = {}
        for size, data in latents.items():
            weights = [emphasis(scene) for scene in data.scenes]
            for opening, clips in ((True, data.opening.nonzero().flatten().tolist()), (False, range(len(weights)))):
                self.pools[size, opening] = list(clips), list(accumulate(weights[clip] for clip in clips))
        self.nothing = embed(encoder, tokenizer, [""])

    def draw(self, tokens: int, small: bool = False, captioned: bool = False, opening: bool = False) -> Batch:
        """A batch of `tokens` noisy tokens, of `small` clips only or of any size; `opening` chunks only, or any.

        Unless all are to be `captioned`, one caption in ten is left out, for guidance.
        """
        rng = self.rng
        sizes = [min(self.latents)] if small else list(self.latents)
        size = rng.choices(sizes, weights=[SIZE_WEIGHTS[size] for size in sizes])[0]
        data = self.latents[size]
        count = tokens // (CHUNK * (size // 16) ** 2)
        opening = opening or rng.random() < OPENING_SHARE
        clips, sums = self.pools[size, opening]
        indices = rng.choices(clips, cum_weights=sums, k=count)
        scenes = [data.scenes[i] for i in indices]
        embeds = embed(self.encoder, self.tokenizer, [caption(scene, rng) for scene in scenes])
        if not captioned:
            embeds[torch.rand(count) < CAPTION_DROPOUT] = self.nothing
        values = data.values[indices].float().to(self.device)
        covered = data.covered[indices].to(self.device)
        if opening:
            return Batch(values[:, :, :CHUNK], covered[:, :, :CHUNK], None, embeds, scenes)
        context = values[:, :, :CHUNK]
        noisy = context + CONTEXT_NOISE * torch.randn_like(context)
        return Batch(values[:, :, CHUNK:], covered[:, :, CHUNK:], noisy, embeds, scenes)


class Velocity(nn.Module):
    """The transformer as a function of a batch: what `FarClip` does at work, with a time for each clip."""

    def __init__(self, transformer: AnyFlowFARTransformer3DModel) -> None:
        super().__init__()
        self.transformer = transformer
        self.work = FarForward(transformer)

    def _time(self, t: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        embedder = self.transformer.condition_embedder
        like = self.transformer.proj_out.weight
        embedding, modulation = embedder.forward_timestep(t[:, None] * TIME_SCALE, r[:, None] * TIME_SCALE, like, 1)
        return embedding, modulation.unflatten(2, (6, -1))

    def forward(self, x: Tensor, t: Tensor, r: Tensor, batch: Batch) -> Tensor:
        """Mean velocity (B, C, 2, h, w) from times `t` to `r`, both (B,), of the batch's chunk at `x`."""
        work, height, width = self.work, x.shape[-2], x.shape[-1]
        text = work.project_text(batch.embeds)
        past: dict[int, KeyValue] = {}
        first_frame = 0
        if batch.context is not None:

            def remember(layer: int) -> Memory:
                return Memory(None, lambda key, value: past.update({layer: (key, value)}))

            clean = self._time(torch.zeros_like(t), torch.zeros_like(t))
            work.hidden(batch.context, work.rotation(0, CHUNK, height, width), clean, text, remember)
            first_frame = CHUNK
        time = self._time(t, r)
        rotation = work.rotation(first_frame, CHUNK, height, width)
        hidden = work.hidden(x, rotation, time, text, lambda layer: Memory(past.get(layer), None))
        return work.velocity(hidden, time, x.shape)


def noised(latents: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """x_t = (1 - t) x_0 + t noise, and the velocity noise - x_0."""
    noise = torch.randn_like(latents)
    level = t.view(-1, 1, 1, 1, 1)
    return (1 - level) * latents + level * noise, noise - latents


def weighted_loss(guess: Tensor, target: Tensor, t: Tensor, batch: Batch) -> Tensor:
    """Mean squared error, heavier where a thing shows: a shape is a small part of a frame and the last to be learnt.

    Towards noise the weight fades, since where things will be is not decided there.
    """
    weight = 1 + THING_WEIGHT * (1 - t).view(-1, 1, 1, 1, 1) * batch.covered
    return ((guess.float() - target).square().mean(1, keepdim=True) * weight).mean() / weight.mean()


def sample_times(count: int, device: str | torch.device) -> Tensor:
    """Logit-normal, a little towards noise, as small clips are decided early (SD3, arXiv 2403.03206, eq. 19)."""
    return torch.sigmoid(0.6 + 1.2 * torch.randn(count, device=device))


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Moves the averaged weights a step towards the model's."""
    for mean, value in zip(average.parameters(), model.parameters(), strict=True):
        mean.lerp_(value.detach(), 1 - decay)


def train(folder: Path, budget_s: float, batches: Batches, channels: int) -> AnyFlowFARTransformer3DModel:
    """Returns the averaged weights."""
    torch.manual_seed(2)
    device = batches.device
    model = Velocity(make_transformer(channels, batches.nothing.shape[-1]).to(device))
    ema = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98))
    stage = Stage(folder, "flow", budget_s, {"model": model, "ema": ema, "optimizer": optimizer})
    # Compiling takes three minutes for the two kinds of batches and saves a third of each step: small clips only.
    compiled = torch.compile(model, dynamic=False)
    smallest = min(batches.latents) // 8
    for step, done in stage:
        batch = batches.draw(BATCH_TOKENS, small=done < SMALL_ONLY)
        forward = compiled if batch.latents.shape[-1] == smallest else model
        t = sample_times(len(batch.latents), device)
        x, target = noised(batch.latents, t)
        # On a CPU the flash kernel's backward takes 12 ms a layer where plain matrix products take 3.
        with sdpa_kernel(SDPBackend.MATH), mixed_precision(device):
            guess = forward(x, t, t, batch)
        loss = weighted_loss(guess, target, t, batch)
        optimizer.param_groups[0]["lr"] = learning_rate(done, 1e-3, step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        follow(ema, model, min(EMA, (1 + step) / (10 + step)))  # faster in the first steps
        stage.log(**{"opening" if batch.context is None else "following": loss.item()})
    return ema.transformer

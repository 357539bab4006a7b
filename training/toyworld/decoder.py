"""Finishes the autoencoder's decoder on latents as the student leaves them; the encoder, so the latents, stay as is.

True latents are noised a little and denoised by the student in one jump, the last of a schedule: what comes out shows
the same clip with the student's own mistakes, and the decoder learns to draw the true frames from it. (Three blocks
more at each resolution and a discriminator of patches, in half an hour, made outlines a shade darker and no shape more
right, of 16 clips that were looked at.)
"""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from training.precision import mixed_precision
from training.toyworld.autoencoder import to_video
from training.toyworld.captions import caption
from training.toyworld.clips import Clips, draw
from training.toyworld.flow import Batch, Velocity, follow, noised
from training.toyworld.latents import CHUNK, denormalise, normalise, sample_latent_orders
from training.toyworld.progress import Stage, learning_rate
from training.toyworld.text import embed
from videosvc.families.causal_autoencoder import CausalConvAutoencoder

CLIPS_PER_SIZE = {64: 4000, 96: 500, 128: 300}
SIZE_WEIGHTS = {64: 8, 96: 1, 128: 1}
BATCH_PIXELS = 8 * 64 * 64  # of a frame, whatever the clips' size
THING_WEIGHT = 8.0
EDGE_WEIGHT = 1.0  # of the differences between neighbouring pixels: outlines tell a square from a circle
LATEST = 0.6  # of the times that are jumped from; a schedule's last jump starts at 0.5
CLEAN_SHARE = 0.25  # of the batches: latents as the encoder makes them
AVERAGE = 0.998


@dataclass(frozen=True, slots=True)
class Student:
    """What makes latents: the distilled transformer, and the text encoder it reads."""

    velocity: Velocity
    encoder: UMT5EncoderModel
    tokenizer: PreTrainedTokenizerFast

    @torch.no_grad()
    def redone(self, latents: Tensor, prompts: list[str]) -> Tensor:
        """Normalised latents (B, C, 4, h, w), each chunk noised and denoised again in a single jump."""
        embeds = embed(self.encoder, self.tokenizer, prompts)
        covered = torch.zeros_like(latents[:, :1], dtype=torch.bool)
        done: list[Tensor] = []
        for chunk in latents.split(CHUNK, dim=2):
            t = LATEST * torch.rand(len(latents), device=latents.device)
            x, _ = noised(chunk, t)
            batch = Batch(chunk, covered, done[-1] if done else None, embeds, [])
            done.append(x - t.view(-1, 1, 1, 1, 1) * self.velocity(x, t, torch.zeros_like(t), batch).float())
        return torch.cat(done, 2)


def drawing_error(decoded: Tensor, video: Tensor, covered: Tensor) -> Tensor:
    """L1 + MSE + the outlines' L1, heavier on and around things. All (B, C, T, H, W); `covered` with one channel."""
    near = F.max_pool3d(covered, (1, 5, 5), 1, (0, 2, 2))
    weight = 1 + THING_WEIGHT * near
    weight = weight / weight.mean()
    error = decoded - video
    across = (error.diff(dim=-1).abs() * weight[..., 1:]).mean()
    down = (error.diff(dim=-2).abs() * weight[..., 1:, :]).mean()
    return (weight * (error.abs() + error.square())).mean() + EDGE_WEIGHT * (across + down)


def _pools() -> dict[int, Clips]:
    return {
        size: draw(sample_latent_orders(count, size, random.Random(f"decoder {size}")))
        for size, count in CLIPS_PER_SIZE.items()
    }


def train(folder: Path, budget_s: float, vae: CausalConvAutoencoder, student: Student) -> CausalConvAutoencoder:
    """Returns the autoencoder with its finished decoder, averaged."""
    torch.manual_seed(6)
    rng = random.Random(6)
    device = vae.device
    model = copy.deepcopy(vae).float().to(memory_format=torch.channels_last)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(("decoder", "memory")))
    average = copy.deepcopy(model)
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=6e-4, weight_decay=1e-4, betas=(0.9, 0.95))
    stage = Stage(folder, "decoder", budget_s, {"model": model, "ema": average, "optimizer": optimizer})
    pools = _pools() if stage.spent_s < budget_s else {}
    for step, done in stage:
        size = rng.choices(list(pools), weights=[SIZE_WEIGHTS[size] for size in pools])[0]
        clips, indices = pools[size], rng.choices(range(len(pools[size].scenes)), k=BATCH_PIXELS // size**2)
        video = to_video(clips.frames[indices].to(device))
        covered = clips.covered[indices].to(device)[:, None].float()
        with mixed_precision(device):
            with torch.no_grad():
                latents = model.encode(video).float()
            if rng.random() >= CLEAN_SHARE:
                prompts = [caption(clips.scenes[i], rng) for i in indices]
                latents = denormalise(model, student.redone(normalise(model, latents), prompts))
            decoded, _ = model.decode_chunk(latents, None)
        loss = drawing_error(decoded.float(), video, covered)
        optimizer.param_groups[0]["lr"] = learning_rate(done, 6e-4, step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learnt, 1.0)
        optimizer.step()
        follow(average, model, min(AVERAGE, (1 + step) / (10 + step)))
        stage.log(loss=loss.item())
    finished: CausalConvAutoencoder = average.eval().requires_grad_(False)
    return finished

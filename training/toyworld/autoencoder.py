"""Trains the autoencoder: plain L1 + MSE, heavier where things are, with noise on the latents."""

from __future__ import annotations

import random
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from training.precision import mixed_precision
from training.toyworld.clips import Clips, draw, sample_orders
from training.toyworld.progress import Stage, learning_rate
from videosvc.families.causal_autoencoder import CausalConvAutoencoder

CROP = 64
FRAMES = 8
BATCH = 12
CLIPS_PER_SIZE = {64: 1400, 96: 500, 128: 500}
THING_WEIGHT = 4.0  # small things lose their colour when every pixel counts the same
LATENT_CHANNELS = 12
LATENT_NOISE = 0.4  # at most, of a channel's own spread: shapes must show in latents as coarse as a sampler leaves them
LATENT_PRIOR = 1e-4  # keeps the latents near unit scale


def _crop(clips: Clips, rng: random.Random) -> tuple[Tensor, Tensor]:
    """(8, 3, 64, 64) uint8 and (8, 64, 64) bool: a random window, around a thing three times out of four."""
    index = rng.randrange(len(clips.frames))
    size, length = clips.frames.shape[-1], clips.frames.shape[1]
    start = rng.randrange(0, length - FRAMES + 1)
    x, y = rng.randint(0, size - CROP), rng.randint(0, size - CROP)
    if rng.random() < 0.75 and size > CROP:
        spots = clips.covered[index, start + FRAMES // 2].nonzero()
        if len(spots):
            spot_y, spot_x = spots[rng.randrange(len(spots))].tolist()
            x = min(max(spot_x - rng.randint(8, CROP - 8), 0), size - CROP)
            y = min(max(spot_y - rng.randint(8, CROP - 8), 0), size - CROP)
    frames = slice(start, start + FRAMES)
    window = (slice(y, y + CROP), slice(x, x + CROP))
    return clips.frames[index, frames, :, *window], clips.covered[index, frames, *window]


def to_video(frames: Tensor) -> Tensor:
    """(B, T, 3, H, W) uint8 -> (B, 3, T, H, W) in [-1, 1]."""
    return frames.float().div(127.5).sub(1).transpose(1, 2)


def train(folder: Path, budget_s: float, seed: int = 0) -> CausalConvAutoencoder:
    """Trains for `budget_s` seconds, going on from the checkpoint in `folder`; the result knows its latents' spread."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: CausalConvAutoencoder = CausalConvAutoencoder(z_dim=LATENT_CHANNELS)
    model.to(device=device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4, betas=(0.9, 0.95))
    stage = Stage(folder, "autoencoder", budget_s, {"model": model, "optimizer": optimizer})
    pools = []
    if stage.spent_s < budget_s:
        pools = [draw(sample_orders(count, size, 16, rng)) for size, count in CLIPS_PER_SIZE.items()]
    for step, done in stage:
        windows = [_crop(rng.choices(pools, weights=(3, 1, 1))[0], rng) for _ in range(BATCH)]
        video = to_video(torch.stack([frames for frames, _ in windows]).to(device))
        covered = torch.stack([mask for _, mask in windows]).to(device)[:, None].float()
        weight = 1 + THING_WEIGHT * covered
        weight = weight / weight.mean()
        with mixed_precision(device):
            latents = model.encode(video)
            spread = latents.detach().float().std((0, 2, 3, 4), keepdim=True)
            level = LATENT_NOISE * torch.rand(BATCH, 1, 1, 1, 1, device=device)
            noisy = latents + level * spread * torch.randn_like(latents)
            decoded, _ = model.decode_chunk(noisy, None)
        error = decoded.float() - video
        loss = (weight * (error.abs() + error.square())).mean() + LATENT_PRIOR * latents.float().square().mean()
        optimizer.param_groups[0]["lr"] = learning_rate(done, 1e-3, step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        mse = F.mse_loss(decoded.detach().float(), video) / 4
        stage.log(loss=loss.item(), psnr=-10 * torch.log10(mse).item(), spread=spread.mean().item())
    measure_latents(model)
    return model


@torch.no_grad()
def measure_latents(model: CausalConvAutoencoder) -> None:
    """Writes each channel's mean and standard deviation into the config, for normalising; always of the same clips."""
    device = next(model.parameters()).device
    parts = []
    for size in CLIPS_PER_SIZE:
        clips = draw(sample_orders(96, size, 16, random.Random(size)))
        parts += [model.encode(to_video(clips.frames[i : i + 8].to(device))) for i in range(0, 96, 8)]
    values = torch.cat([part.transpose(0, 1).flatten(1) for part in parts], dim=1)
    model.register_to_config(latents_mean=values.mean(1).tolist(), latents_std=values.std(1).tolist())

"""Distils a tiny decoder from a model's own: `python -m training.tiny_decoder --model PATH_OR_NAME --minutes N`.

Latents in, the large decoder's frames as the target (TAEHV's idea, tiny decoders for Wan and HunyuanVideo). What it
learns goes into `tiny_decoder/` beside `vae/`: the model then takes `decode = "tiny"`, and shows previews with it. Any
latents of the model's do, best those that it makes itself: `--latents FILE`. The bundled model's autoencoder encodes
drawn clips instead.
"""

from __future__ import annotations

import argparse
import copy
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from training.precision import mixed_precision
from training.toyworld.evaluate import FRAMES, SEED, held_out_scenes
from training.toyworld.latents import load_or_encode
from training.toyworld.probe import read
from training.toyworld.progress import Stage, beneath, learning_rate
from videosvc.config.models import load_model, load_models
from videosvc.config.settings import config_dir
from videosvc.families.anyflow_far import AnyFlowFAR
from videosvc.families.causal_autoencoder import CausalConvAutoencoder
from videosvc.families.checks import TINY_DECODER, read_json
from videosvc.families.decoder import autoencoder_class, open_stream
from videosvc.families.latent_spec import WAN_SPATIAL, WAN_TEMPORAL
from videosvc_samplers import SamplerState, flow_map, flow_sigmas

# Of what the bundled decoder multiplies, 0.23: {channels} near the latents' resolution, then at twice that.
CHANNELS = (64, 48)
BLOCKS = 1
BATCH = 12
SIDE = 8  # latents of a window
NOISE = 0.4  # at most, of a channel's own spread, on half of the latents: a sampler leaves them coarser than an encoder
EDGE_WEIGHT = 1.0  # of the differences between neighbouring pixels: edges blur where every pixel counts the same
CLIPS = {64: 1000, 128: 500}  # that are encoded if no latents are given
READ, STEPS = 100, 4  # clips that the probe reads at the end, and how many steps each chunk of them takes
HELD_OUT = 16  # clips that are measured on, not trained on


def tiny_decoder(vae: Any) -> CausalConvAutoencoder:
    """A fresh one for latents of `vae`."""
    config = vae.config
    model: CausalConvAutoencoder = CausalConvAutoencoder(
        z_dim=config.z_dim,
        encoder_channels=(),
        decoder_channels=CHANNELS,
        blocks=BLOCKS,
        scale_factor_temporal=config.get("scale_factor_temporal") or WAN_TEMPORAL,
        scale_factor_spatial=config.get("scale_factor_spatial") or WAN_SPATIAL,
    )
    return model


@torch.no_grad()
def decoded(vae: Any, z: Tensor) -> Tensor:
    """The large decoder's frames `(B, 3, T', H, W)` of whole clips."""
    return open_stream(vae).decode(z).float()


def train(vae: Any, pools: Sequence[Tensor], folder: Path, budget_s: float, seed: int = 0) -> CausalConvAutoencoder:
    """Trains for `budget_s` seconds, going on from the checkpoint in `folder`.

    `pools`: latents `(N, C, T, h, w)`, normalised, a pool for each size, of at least `SIDE` a side; of each the first
    `HELD_OUT` clips are left out, and measured on.
    """
    rng = random.Random(seed)
    torch.manual_seed(seed)
    device = vae.device
    mean, std = (torch.tensor(values, device=device).view(1, -1, 1, 1, 1) for values in _statistics(vae))
    student = tiny_decoder(vae)
    student.to(device=device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(student.parameters(), lr=2e-3, weight_decay=1e-4, betas=(0.9, 0.95))
    stage = Stage(folder, "tiny_decoder", budget_s, {"model": student, "optimizer": optimizer})
    for step, done in stage:
        pool = rng.choices(pools, [len(pool) for pool in pools])[0]
        normalised = torch.stack([_window(pool, rng) for _ in range(BATCH)]).to(device).float()
        level = NOISE * (2 * torch.rand(BATCH, 1, 1, 1, 1, device=device) - 1).clamp(min=0)
        z = (normalised + level * torch.randn_like(normalised)) * std + mean
        with mixed_precision(device):
            target = decoded(vae, z)
            frames, _ = student.decode_chunk(z, None)
        error = frames[:, :, -target.shape[2] :].float() - target
        edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        loss = error.abs().mean() + error.square().mean() + EDGE_WEIGHT * edges
        optimizer.param_groups[0]["lr"] = learning_rate(done, 2e-3, step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        stage.log(loss=loss.item())
    student.eval()
    for pool in pools:
        z = pool[:HELD_OUT].to(device).float() * std + mean
        size = "x".join(str(side) for side in pool.shape[:-3:-1])
        print(f"held out, {size} latents: {likeness(vae, student, z):.1f} dB of the large decoder's frames", flush=True)
    return student


@torch.no_grad()
def likeness(vae: Any, student: CausalConvAutoencoder, z: Tensor) -> float:
    """Peak signal to noise of the tiny decoder's frames of whole clips against the large one's, in dB."""
    target = decoded(vae, z)
    frames = student.decode_chunk(z, None)[0].clamp(-1, 1)[:, :, -target.shape[2] :]
    return -10 * torch.log10(F.mse_loss(frames, target) / 4).item()


@torch.inference_mode()
def right(folder: Path, clips: int) -> dict[str, int]:
    """Clips of those that the bundled kind of model in `folder` makes in which the probe reads all that was asked for.

    By decoder: the same latents through each.
    """
    family = AnyFlowFAR("toyworld", folder, 1, torch.device("cpu"), torch.float32)
    counts = dict.fromkeys(("stream", "tiny"), 0)
    for number, (scene, prompt) in enumerate(held_out_scenes(clips, SEED)):
        text = family.encode_text(prompt, None)
        by_decoder = {decode: family.open_clip(64, 64, text, 1.0, decode=decode) for decode in counts}
        clip, generator = by_decoder["stream"], torch.Generator().manual_seed(SEED + number)
        frames: dict[str, list[Tensor]] = {decode: [] for decode in counts}
        for size in family.spec.chunks(FRAMES):
            state = SamplerState.start(torch.randn(1, family.spec.channels, size, 8, 8, generator=generator))
            *_, state = flow_map(clip.denoise, state, flow_sigmas(STEPS))
            clip.append(state.latents)
            for decode, each in by_decoder.items():
                frames[decode].append(each.decode(state.latents))
        for decode, parts in frames.items():
            counts[decode] += read(torch.cat(parts).permute(0, 3, 1, 2)).agrees(scene)["all four"]
    return counts


def save(student: CausalConvAutoencoder, folder: Path) -> None:
    """As `folder`/tiny_decoder, in bfloat16, written beside the old one and then put in its place."""
    place = folder / TINY_DECODER
    new, old = place.with_name(f".{TINY_DECODER}.new"), place.with_name(f".{TINY_DECODER}.old")
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    copy.deepcopy(student).to("cpu", torch.bfloat16).save_pretrained(new)
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def run(name: str, folder: Path, latents: Path | None, work: Path, minutes: float) -> None:
    """Trains one for the model in `folder`. Raises ModelError, SystemExit where latents must be given."""
    vae_class = autoencoder_class(name, read_json(name, folder, "vae/config.json").get("_class_name"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    vae = vae_class.from_pretrained(folder / "vae", torch_dtype=torch.float32).to(device).eval().requires_grad_(False)
    work.mkdir(parents=True, exist_ok=True)
    work = beneath(work, vae)
    if latents is not None:
        pools = [load_file(latents)["latents"]]
    elif isinstance(vae, CausalConvAutoencoder):
        pools = [load_or_encode(work, vae, size, count, seed=4).values for size, count in CLIPS.items()]
    else:
        raise SystemExit(f"--latents: model {name!r} needs some of its own; drawn clips are for the bundled one")
    save(train(vae, pools, work, minutes * 60), folder)
    if latents is None:
        print(f"clips that the probe reads right, of {READ}: {right(folder, READ)}", flush=True)


def _statistics(vae: Any) -> tuple[list[float], list[float]]:
    return list(vae.config.latents_mean), list(vae.config.latents_std)


def _window(pool: Tensor, rng: random.Random) -> Tensor:
    """Of one clip, `(C, T, SIDE, SIDE)`."""
    clip = pool[rng.randrange(HELD_OUT, len(pool))]
    y, x = (rng.randint(0, side - SIDE) for side in clip.shape[-2:])
    return clip[..., y : y + SIDE, x : x + SIDE]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Trains a tiny decoder for a model, into its folder.")
    parser.add_argument("--model", required=True, help="a model's name or its folder")
    parser.add_argument("--minutes", type=float, default=20, help="of training in all (default: 20)")
    parser.add_argument("--latents", type=Path, help='safetensors file: "latents" (N, C, T, h, w), normalised')
    parser.add_argument("--work", type=Path, default=Path("build/tiny_decoder"), help="folder for checkpoints")
    arguments = parser.parse_args()
    known = arguments.model in load_models(config_dir())
    model_folder = load_model(config_dir(), arguments.model).folder() if known else Path(arguments.model)
    run(arguments.model, model_folder, arguments.latents, arguments.work, arguments.minutes)

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import save_file

from tiny_model import make_tiny_checkpoint
from training import tiny_decoder
from training.toyworld import latents
from training.toyworld.clips import Clips, Order
from training.toyworld.evaluate import held_out_scenes
from training.toyworld.world import Scene, render
from videosvc.families.anyflow_far import AnyFlowFAR
from videosvc.families.causal_autoencoder import CausalConvAutoencoder
from videosvc.families.checks import TINY_DECODER


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is, on a few clips, and of a width that learns in seconds."""
    monkeypatch.setattr(tiny_decoder, "CLIPS", {64: 6})
    monkeypatch.setattr(tiny_decoder, "HELD_OUT", 2)
    monkeypatch.setattr(tiny_decoder, "READ", 1)
    monkeypatch.setattr(tiny_decoder, "BATCH", 2)
    monkeypatch.setattr(tiny_decoder, "CHANNELS", (16, 8))
    monkeypatch.setattr(tiny_decoder, "held_out_scenes", _briefly)
    monkeypatch.setattr(latents, "draw", _draw)


def _briefly(count: int, seed: int) -> list[tuple[Scene, str]]:
    """In words that the tiny model knows, and as few as it reads."""
    return [(scene, "a red circle") for scene, _ in held_out_scenes(count, seed)]


def _draw(orders: list[Order]) -> Clips:
    drawn = [render(order.scene, order.size, order.size, order.frames, order.start_s) for order in orders]
    frames, covered = (torch.stack(parts) for parts in zip(*drawn, strict=True))
    return Clips([order.scene for order in orders], frames, covered)


def test_what_it_learns_is_the_large_decoders_frames(tmp_path: Path) -> None:
    folder = make_tiny_checkpoint(tmp_path / "model")
    vae = CausalConvAutoencoder.from_pretrained(folder / "vae").eval().requires_grad_(False)
    pool = torch.randn(8, 16, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([vae.config.latents_mean, vae.config.latents_std]).view(2, 1, -1, 1, 1, 1)
    z = pool * std + mean
    torch.manual_seed(0)
    before = tiny_decoder.likeness(vae, tiny_decoder.tiny_decoder(vae).eval(), z)
    after = tiny_decoder.likeness(vae, tiny_decoder.train(vae, [pool], tmp_path, budget_s=3.0), z)
    assert after > before


def test_the_command_makes_a_decoder_that_its_model_takes_and_goes_on_where_it_was(tmp_path: Path) -> None:
    folder, work = make_tiny_checkpoint(tmp_path / "model"), tmp_path / "work"
    tiny_decoder.run("tiny", folder, None, work, minutes=0.01)
    first = torch.load(next(work.rglob("tiny_decoder.pt")), weights_only=True)
    tiny_decoder.run("tiny", folder, None, work, minutes=0.02)
    second = torch.load(next(work.rglob("tiny_decoder.pt")), weights_only=True)
    assert second["step"] > first["step"] >= 1 and second["spent_s"] >= 0.02 * 60
    assert sorted(path.name for path in folder.iterdir() if "tiny" in path.name) == [TINY_DECODER]

    family = AnyFlowFAR("tiny", folder, 1, torch.device("cpu"), torch.float32)
    clip = family.open_clip(48, 32, family.encode_text("red", None), 1.0, decode="tiny")
    assert clip.decode(torch.zeros(1, 16, 2, 4, 6)).shape == (8, 32, 48, 3)


def test_of_another_kind_of_model_latents_must_be_given(tmp_path: Path) -> None:
    folder, work = make_tiny_checkpoint(tmp_path / "model", vae="wan", chunk_partition=(1, 3)), tmp_path / "work"
    with pytest.raises(SystemExit, match="--latents: model 'tiny' needs some of its own"):
        tiny_decoder.run("tiny", folder, None, work, minutes=0.01)
    file = tmp_path / "latents.safetensors"
    save_file({"latents": torch.randn(4, 16, 3, 8, 10)}, file)
    tiny_decoder.run("tiny", folder, file, work, minutes=0.01)
    vae = AutoencoderKLWan.from_pretrained(folder / "vae").eval()
    student = CausalConvAutoencoder.from_pretrained(folder / TINY_DECODER).eval()
    assert tiny_decoder.decoded(vae, torch.zeros(1, 16, 3, 8, 8)).shape[2] == 9
    assert tiny_decoder.likeness(vae, student, torch.zeros(1, 16, 3, 8, 8)) > 0

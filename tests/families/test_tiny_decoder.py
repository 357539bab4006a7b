"""A tiny decoder beside a model's own: finals, previews, and where there is none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tiny_model import add_tiny_decoder
from videosvc.errors import ModelError
from videosvc.families.anyflow_far import AnyFlowFAR
from videosvc.families.base import Clip
from videosvc.families.causal_autoencoder import CausalConvAutoencoder
from videosvc.families.checks import TINY_DECODER, tiny_decoder_refusal
from videosvc.families.decoder import to_frames


@pytest.fixture(scope="session", params=["causal", "wan"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with both kinds of large decoder; read it only."""
    whole: Path = request.getfixturevalue(f"{request.param}_folder")
    return add_tiny_decoder(Path(shutil.copytree(whole, tmp_path_factory.mktemp("models") / request.param)))


def load(folder: Path) -> AnyFlowFAR:
    return AnyFlowFAR("tiny", folder, 1, torch.device("cpu"), torch.float32)


def open_clip(family: AnyFlowFAR, decode: str) -> Clip:
    return family.open_clip(48, 32, family.encode_text("a red circle", None), 1.0, decode=decode)


def latents(count: int) -> torch.Tensor:
    return torch.randn(1, 16, count, 4, 6, generator=torch.Generator().manual_seed(torch.seed() % 2**32))


@torch.inference_mode()
def test_it_streams_to_what_it_decodes_at_once(folder: Path) -> None:
    family = load(folder)
    z = latents(6)
    clip = open_clip(family, "tiny")
    streamed = torch.cat([clip.decode(part) for part in z.split((1, 3, 2), dim=2)])
    assert len(streamed) == family.spec.frames_of(0, 6), "as many as the large one gives"
    at_once = open_clip(family, "tiny").decode(z)
    assert (streamed.int() - at_once.int()).abs().max() <= 1  # of 255: oneDNN sums other batches in another order

    decoder = CausalConvAutoencoder.from_pretrained(folder / TINY_DECODER).eval()
    config = family._vae.config
    mean, std = torch.tensor([config.latents_mean, config.latents_std])[:, None, :, None, None, None]
    whole = to_frames(decoder.decode(z * std + mean).sample)[-len(streamed) :]
    assert (streamed.int() - whole.int()).abs().max() <= 1
    assert (streamed.int() - open_clip(family, "stream").decode(z).int()).abs().max() > 1


@torch.inference_mode()
@pytest.mark.parametrize("decode", ["stream", "tiled", "tiny"])
def test_previews_are_the_tiny_decoders_next_frame_and_change_nothing(folder: Path, decode: str) -> None:
    family = load(folder)
    clip, undisturbed, tiny = (open_clip(family, name) for name in (decode, decode, "tiny"))
    for part in latents(6).split((1, 3, 2), dim=2):
        clip.preview(latents(3))
        shown = clip.preview(part)
        frames = tiny.decode(part)[: family.spec.frames_of(0, 1) if part.shape[2] == 1 else family.spec.temporal]
        assert (shown.int() - frames[-1].int()).abs().max() <= 1
        assert torch.equal(clip.decode(part), undisturbed.decode(part))


@torch.inference_mode()
def test_a_model_without_one_refuses_the_lever_only(causal_folder: Path) -> None:
    family = load(causal_folder)
    line = "lever decode='tiny' cannot be: model 'tiny' has no folder tiny_decoder"
    with pytest.raises(ModelError, match=line) as refused:
        open_clip(family, "tiny")
    assert refused.value.param == "levers"
    assert tiny_decoder_refusal("tiny", causal_folder) == line
    assert open_clip(family, "stream").preview(latents(1)).shape == (32, 48, 3)


def test_the_model_stays_what_it_is(causal_folder: Path, tmp_path: Path) -> None:
    """What was measured on its weights, and clips that wait half-made, are good still."""
    copy = Path(shutil.copytree(causal_folder, tmp_path / "copy"))
    assert load(add_tiny_decoder(copy)).model_hash == load(causal_folder).model_hash


def test_a_damaged_one_and_another_models_are_told(causal_folder: Path, tmp_path: Path) -> None:
    folder = add_tiny_decoder(Path(shutil.copytree(causal_folder, tmp_path / "model")))
    weights = folder / TINY_DECODER / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    with pytest.raises(ModelError, match="tiny_decoder/diffusion_pytorch_model"):
        load(folder)
    CausalConvAutoencoder(z_dim=4, encoder_channels=(), decoder_channels=(8, 4), blocks=1).save_pretrained(
        weights.parent
    )
    with pytest.raises(ModelError, match=r"tiny_decoder/config\.json: it decodes latents of another kind of model"):
        load(folder)

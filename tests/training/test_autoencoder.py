from __future__ import annotations

import pytest
import torch

from videosvc.families.causal_autoencoder import CausalConvAutoencoder, DecoderState


@pytest.fixture(scope="module")
def vae() -> CausalConvAutoencoder:
    torch.manual_seed(0)
    model: CausalConvAutoencoder = CausalConvAutoencoder(
        z_dim=6, encoder_channels=(16, 24), decoder_channels=(24, 16), blocks=1
    )
    with torch.no_grad():
        for parameter in model.parameters():  # memory blocks start as the identity, which would hide a lost state
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 96), (128, 128), (64, 112)])
def test_shapes(vae: CausalConvAutoencoder, height: int, width: int) -> None:
    latents = vae.encode(torch.rand(2, 3, 8, height, width))
    assert latents.shape == (2, 6, 2, height // 8, width // 8)
    assert vae.decode(latents, return_dict=False)[0].shape == (2, 3, 8, height, width)


def test_decode_is_clamped_and_wrapped_as_diffusers_expects(vae: CausalConvAutoencoder) -> None:
    latents = 30 * torch.randn(1, 6, 2, 8, 8)
    video = vae.decode(latents).sample
    assert torch.equal(video, vae.decode(latents, return_dict=False)[0])
    assert (video.min(), video.max()) == (-1, 1)


@pytest.mark.parametrize("chunks", [(1, 1, 1, 1, 1), (2, 2, 1), (1, 4)])
def test_chunks_decode_to_what_the_whole_does(vae: CausalConvAutoencoder, chunks: tuple[int, ...]) -> None:
    latents = torch.randn(2, 6, 5, 8, 8)
    whole, _ = vae.decode_chunk(latents, None)
    state: DecoderState | None = None
    parts = []
    for chunk in latents.split(list(chunks), dim=2):
        part, state = vae.decode_chunk(chunk, state)
        parts.append(part)
    assert torch.allclose(torch.cat(parts, dim=2), whole, atol=1e-6, rtol=0)


def test_a_latent_changes_its_own_frames_and_the_next_ones_only(vae: CausalConvAutoencoder) -> None:
    latents = torch.randn(1, 6, 4, 8, 8)
    changed = latents.clone()
    changed[:, :, 2] += 1
    before, after = vae.decode_chunk(latents, None)[0], vae.decode_chunk(changed, None)[0]
    assert torch.allclose(before[:, :, :8], after[:, :, :8], atol=1e-6, rtol=0)
    moved = (before - after).abs().mean((0, 1, 3, 4))
    assert (moved[8:12] > 1e-3).all() and (moved[12:] > 1e-5).all()


def test_frames_of_one_latent_are_encoded_apart_from_others(vae: CausalConvAutoencoder) -> None:
    video = torch.rand(1, 3, 12, 64, 64)
    latents = vae.encode(video)
    assert torch.allclose(latents[:, :, 1:2], vae.encode(video[:, :, 4:8]), atol=1e-6, rtol=0)


def test_broken_lengths_are_refused(vae: CausalConvAutoencoder) -> None:
    with pytest.raises(ValueError, match="video: 6 frames are not a multiple of 4"):
        vae.encode(torch.rand(1, 3, 6, 64, 64))

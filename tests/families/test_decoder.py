"""Decoding chunk by chunk is decoding at once, bit for bit for Wan's autoencoder."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan

from videosvc.errors import GenerationError
from videosvc.families.causal_autoencoder import CausalConvAutoencoder
from videosvc.families.decoder import CausalConvStream, DecoderStream, TiledStream, WanStream, to_frames


def latents(seed: int) -> torch.Tensor:
    return torch.randn(1, 16, 6, 4, 6, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def test_wan_streams_bit_for_bit(wan_folder: Path) -> None:
    vae = AutoencoderKLWan.from_pretrained(wan_folder / "vae").eval()
    # Interleaved, because state must belong to the stream and not to the model.
    first, second = WanStream(vae), WanStream(vae)
    chunks: list[list[torch.Tensor]] = [[], []]
    parts = [latents(seed).split((1, 3, 2), dim=2) for seed in range(2)]
    for number in range(3):
        chunks[0].append(first.decode(parts[0][number]))
        chunks[1].append(second.decode(parts[1][number]))
    assert [chunk.shape[2] for chunk in chunks[0]] == [1, 12, 8]
    for seed in range(2):
        whole = vae.decode(latents(seed), return_dict=False)[0]
        assert torch.equal(torch.cat(chunks[seed], dim=2), whole)


@torch.inference_mode()
def test_causal_conv_streams(causal_folder: Path) -> None:
    vae = CausalConvAutoencoder.from_pretrained(causal_folder / "vae").eval()
    stream = CausalConvStream(vae)
    video = torch.cat([stream.decode(part) for part in latents(0).split(2, dim=2)], dim=2)
    whole = vae.decode(latents(0), return_dict=False)[0]
    assert video.shape == (1, 3, 24, 32, 48)
    torch.testing.assert_close(video, whole, atol=1e-6, rtol=0)
    alone = CausalConvStream(vae).decode(latents(0)[:, :, 2:4])
    assert not torch.allclose(alone, whole[:, :, 8:16], atol=1e-3)  # so the state does carry something


def test_to_frames() -> None:
    video = torch.tensor([-1.0, 0.0, 1.0, 1.5]).view(1, 1, 4, 1, 1).expand(1, 3, 4, 2, 5)
    frames = to_frames(video)
    assert frames.shape == (4, 2, 5, 3) and frames.dtype == torch.uint8
    assert frames[:, 0, 0, 0].tolist() == [0, 128, 255, 255]
    for odd in (torch.nan, torch.inf):
        with pytest.raises(GenerationError, match="decoding: the pictures are not finite"):
            to_frames(torch.where(video == 0, odd, video))


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["causal", "wan"])
def test_peeking_shows_the_next_frames_and_changes_nothing(kind: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(f"{kind}_folder") / "vae"
    streams: list[DecoderStream]
    if kind == "wan":
        wan = AutoencoderKLWan.from_pretrained(folder).eval()
        streams = [WanStream(wan), WanStream(wan)]
    else:
        causal = CausalConvAutoencoder.from_pretrained(folder).eval()
        streams = [CausalConvStream(causal), CausalConvStream(causal)]
    for part in latents(0).split((1, 3, 2), dim=2):
        streams[0].peek(latents(1)[:, :, :2])
        peeked = streams[0].peek(part)
        streams[0].peek(latents(2))
        frames, undisturbed = (stream.decode(part) for stream in streams)
        assert torch.equal(frames, undisturbed)
        torch.testing.assert_close(peeked, frames[:, :, : peeked.shape[2]], atol=1e-5, rtol=0)


def open_stream(kind: str, request: pytest.FixtureRequest) -> partial[DecoderStream]:
    folder: Path = request.getfixturevalue(f"{kind}_folder") / "vae"
    if kind == "wan":
        return partial(WanStream, AutoencoderKLWan.from_pretrained(folder).eval())
    return partial(CausalConvStream, CausalConvAutoencoder.from_pretrained(folder).eval())


def parts(*sizes: int) -> tuple[torch.Tensor, ...]:
    """Of 16x14 latents."""
    z = torch.randn(1, 16, sum(sizes), 16, 14, generator=torch.Generator().manual_seed(3))
    return z.split(sizes, dim=2)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("kind", "rms"),
    [
        ("causal", 0.02),  # measured: 0.010; frames have a standard deviation of 0.20
        ("wan", 0.15),  # 0.07 of 0.24: its middle block attends to the whole frame
    ],
)
def test_tiles_differ_from_the_stream_only_by_what_they_do_not_see(
    kind: str, rms: float, request: pytest.FixtureRequest
) -> None:
    opened = open_stream(kind, request)
    tiled, stream = TiledStream(opened, tile=10, overlap=4, spatial=8), opened()
    for part in parts(1, 2):
        joined, whole = tiled.decode(part), stream.decode(part)
        assert joined.shape == whole.shape
        off = (joined - whole).abs()
        assert 0 < off.square().mean().sqrt() < rms
        if kind == "causal":  # whose convolutions reach no further: nothing is lost far from the seams
            assert off[..., :8, :8].max() < 1e-3


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["causal", "wan"])
def test_one_tile_is_the_stream_itself(kind: str, request: pytest.FixtureRequest) -> None:
    opened = open_stream(kind, request)
    tiled, stream = TiledStream(opened, tile=16, overlap=4, spatial=8), opened()
    for part in parts(1, 2):
        assert torch.equal(tiled.peek(part), stream.peek(part))
        assert torch.equal(tiled.decode(part), stream.decode(part))


@torch.inference_mode()
def test_a_tile_is_all_that_is_decoded_at_once(causal_folder: Path) -> None:
    vae = CausalConvAutoencoder.from_pretrained(causal_folder / "vae").eval()
    seen: list[tuple[int, ...]] = []
    vae.decoder_in.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    tiled = TiledStream(partial(CausalConvStream, vae), tile=10, overlap=4, spatial=8)
    for part in parts(2, 2):
        tiled.decode(part)
    assert seen == [(2, 16, 10, 9)] * 8

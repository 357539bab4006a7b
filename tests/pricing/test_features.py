from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tiny_model import make_tiny_checkpoint
from videosvc.engine.plan import Plan
from videosvc.families.anyflow_far import AnyFlowFAR
from videosvc.families.far_clip import FarClip
from videosvc.families.latent_spec import LatentSpec
from videosvc.pricing.features import FEATURES, run_features
from videosvc.pricing.frame_memory import FrameMemory
from videosvc.pricing.shape import ModelShape


@pytest.fixture
def shape(shape: ModelShape) -> ModelShape:
    return replace(shape, spec=LatentSpec(24, 8, 4, 4, 2, 2, False, 16), window_chunks=1)


def test_by_hand(plan: Plan, shape: ModelShape) -> None:
    """64x64 at 8 fps: two latents a chunk of 4x4 tokens each, eight frames; the window is one chunk."""
    work = run_features(replace(plan, seconds=2.5), shape)
    assert work.text == (1.0,)
    assert [chunk.denoise for chunk in work.chunks] == [
        (1.0, 0.032, 32 * 32 / 1e6),
        (1.0, 0.032, 32 * 64 / 1e6),
        (1.0, 0.032, 32 * 64 / 1e6),
    ]
    assert [chunk.decode for chunk in work.chunks] == 3 * [(1.0, 8 * 64 * 64 / 1e6)]
    assert [chunk.mux for chunk in work.chunks] == [(1.0, n * 64 * 64 / 1e6) for n in (8, 8, 4)]  # the rest is trimmed
    assert work.finish == pytest.approx((1.0, 20 * 64 * 64 / 1e6))


def test_guidance_doubles_what_the_transformer_does(plan: Plan, shape: ModelShape) -> None:
    plain, guided = (run_features(replace(plan, guidance_scale=scale), shape) for scale in (1.0, 4.0))
    assert guided.text == (2.0,)
    assert guided.chunks[1].denoise[1:] == tuple(2 * amount for amount in plain.chunks[1].denoise[1:])
    assert guided.chunks[1].decode == plain.chunks[1].decode


def test_without_a_window_every_chunk_is_looked_back_on(plan: Plan, shape: ModelShape) -> None:
    work = run_features(replace(plan, seconds=4.0), replace(shape, window_chunks=None, full_chunks=None))
    assert [chunk.denoise[2] for chunk in work.chunks] == [32 * 32 * n / 1e6 for n in (1, 2, 3, 4)]
    assert all(chunk.append == chunk.denoise for chunk in work.chunks)


def test_chunks_that_age_are_encoded_once_more_and_count_less(plan: Plan, shape: ModelShape) -> None:
    """Two in full, older ones in a quarter of the tokens."""
    work = run_features(
        replace(plan, seconds=5.0), replace(shape, window_chunks=None, full_chunks=2, coarse_share=1 / 4)
    )
    assert [chunk.denoise[2] * 1e6 for chunk in work.chunks] == pytest.approx(
        [32 * 32 * n for n in (1, 2, 3, 3.25, 3.5)]
    )
    assert [chunk.coarse for chunk in work.chunks] == [
        None,
        None,
        (1.0, 0.008, 8 * 8 / 1e6),
        (1.0, 0.008, 8 * 16 / 1e6),
        (1.0, 0.008, 8 * 24 / 1e6),
    ]
    assert work.chunks[3].append == pytest.approx((2.0, 0.040, work.chunks[3].denoise[2] + 8 * 16 / 1e6))


@pytest.mark.parametrize(("window", "sinks"), [(None, 0), (1, 0), (2, 0), (4, 0), (1, 1), (2, 1), (1, 3), (3, 2)])
def test_remembers_what_the_clip_does(shape: ModelShape, window: int | None, sinks: int, tmp_path: Path) -> None:
    family = AnyFlowFAR(
        "tiny", make_tiny_checkpoint(tmp_path), window, torch.device("cpu"), torch.float32, sink_chunks=sinks
    )
    clip = family.open_clip(64, 64, family.encode_text("red", None), 1.0)
    assert isinstance(clip, FarClip)
    memory = FrameMemory(replace(shape, window_chunks=window, sink_chunks=sinks, full_chunks=2, coarse_share=1 / 4))
    bytes_a_latent = 16 * 2 * 2 * 48 * 4  # tokens, layers, key and value, channels, float32
    with torch.inference_mode():
        for _ in range(7):
            clip.append(torch.zeros(1, 16, 2, 8, 8))
            memory.append(2)
            assert clip.cache_bytes == memory.latents * bytes_a_latent


def test_each_kind_has_its_features(plan: Plan, shape: ModelShape) -> None:
    work = run_features(plan, shape)
    (chunk, _) = work.chunks
    amounts = (work.text, chunk.denoise, chunk.decode, chunk.mux, work.finish)
    assert [len(each) for each in amounts] == [len(names) for names in FEATURES.values()]


def test_decoding_all_at_once_is_one_piece_at_the_end(plan: Plan, shape: ModelShape) -> None:
    work = run_features(replace(plan, seconds=2.5, decode="full"), shape)
    assert [chunk.decode for chunk in work.chunks] == [(0.0, 0.0), (0.0, 0.0), (1.0, 24 * 64 * 64 / 1e6)]
    assert [chunk.mux for chunk in work.chunks[:2]] == [(0.0, 0.0), (0.0, 0.0)]
    assert work.chunks[2].mux == pytest.approx((1.0, 20 * 64 * 64 / 1e6))
    streamed = run_features(replace(plan, seconds=2.5), shape)
    assert [chunk.denoise for chunk in work.chunks] == [chunk.denoise for chunk in streamed.chunks]


@pytest.mark.parametrize(
    ("width", "height", "tiles", "latents"),
    [(64, 64, 1, 8 * 8), (128, 64, 2, 20 * 8), (128, 128, 4, 20 * 20), (160, 96, 2, 24 * 12)],
)
def test_pixels_of_several_tiles_count_in_each(
    plan: Plan, shape: ModelShape, width: int, height: int, tiles: int, latents: int
) -> None:
    shape = replace(shape, spec=replace(shape.spec, tile=12, tile_overlap=4))
    plan = replace(plan, seconds=1.0, width=width, height=height, decode="tiled")
    (chunk,) = run_features(plan, shape).chunks
    assert chunk.decode == pytest.approx((tiles, 8 * latents * 64 / 1e6))
    assert chunk.mux == pytest.approx((1.0, 8 * width * height / 1e6))  # what leaves is the frame


def test_a_picture_is_one_chunk_more_to_remember_to_encode_and_to_decode(plan: Plan, shape: ModelShape) -> None:
    plan = replace(plan, seconds=2.5)
    plain, work = run_features(plan, shape), run_features(replace(plan, input_reference="a"), shape)
    frame = 64 * 64 / 1e6
    assert work.picture is not None and plain.picture is None
    assert (work.picture.denoise, work.picture.decode) == (plain.chunks[0].denoise, plain.chunks[0].decode)
    assert [chunk.denoise for chunk in work.chunks] == 3 * [plain.chunks[1].denoise]
    assert [chunk.decode[1] for chunk in work.chunks] == [16 * frame, 8 * frame, 8 * frame]
    assert [chunk.mux[1] for chunk in work.chunks] == pytest.approx([9 * frame, 8 * frame, 3 * frame])
    assert work.finish == plain.finish


def test_of_wans_picture_one_frame_is_decoded(plan: Plan, shape: ModelShape) -> None:
    """13 frames: the picture's latent, and one chunk of three."""
    wan = replace(shape, spec=LatentSpec(16, 8, 4, 1, 1, 3, False, 16), window_chunks=None)
    work = run_features(replace(plan, seconds=13 / 8, input_reference="a"), wan)
    frame = 64 * 64 / 1e6
    assert work.picture is not None and work.picture.decode == (1.0, frame)
    (chunk,) = work.chunks
    assert (chunk.decode, chunk.mux) == ((1.0, 13 * frame), (1.0, 13 * frame))
    assert chunk.denoise == (1.0, 0.048, 48 * 64 / 1e6)

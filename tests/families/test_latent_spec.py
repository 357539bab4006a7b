from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videosvc.families.latent_spec import LatentSpec
from videosvc_kernels import spans

BUNDLED = LatentSpec(
    channels=16,
    spatial=8,
    temporal=4,
    first_frames=4,
    first_chunk=2,
    chunk=2,
    short_last_chunk=False,
    grid=16,
)
PUBLISHED = replace(BUNDLED, first_frames=1, first_chunk=1, chunk=3, short_last_chunk=True)


@pytest.mark.parametrize(
    ("spec", "frames", "chunks"),
    [
        (BUNDLED, 16, (2, 2)),
        (BUNDLED, 17, (2, 2, 2)),  # trained on whole chunks, so a whole one it is, and 7 frames are trimmed
        (BUNDLED, 1, (2,)),
        (PUBLISHED, 81, (1, 3, 3, 3, 3, 3, 3, 2)),  # the partition in the published configuration
        (PUBLISHED, 1, (1,)),
        (PUBLISHED, 2, (1, 1)),
    ],
)
def test_chunks(spec: LatentSpec, frames: int, chunks: tuple[int, ...]) -> None:
    assert spec.chunks(frames) == chunks


@given(st.sampled_from([BUNDLED, PUBLISHED]), st.integers(1, 2000))
def test_chunks_cover_the_frames_and_no_chunk_is_idle(spec: LatentSpec, frames: int) -> None:
    chunks = spec.chunks(frames)
    decoded = [spec.frames_of(sum(chunks[:i]), size) for i, size in enumerate(chunks)]
    assert sum(decoded) >= frames > sum(decoded[:-1])
    assert sum(decoded) == spec.frames_of(0, sum(chunks))
    assert spec.frames_of(3, 0) == 0


@pytest.mark.parametrize(
    ("spec", "frames", "chunks"),
    [
        (BUNDLED, 16, (2, 2)),
        (BUNDLED, 17, (2, 2)),  # of which the picture is one
        (BUNDLED, 18, (2, 2, 2)),
        (BUNDLED, 1, (2,)),
        (PUBLISHED, 81, (3, 3, 3, 3, 3, 3, 2)),  # the picture is the first chunk
        (PUBLISHED, 13, (3,)),
    ],
)
def test_chunks_after_a_picture(spec: LatentSpec, frames: int, chunks: tuple[int, ...]) -> None:
    assert spec.takes_picture and spec.chunks(frames, from_picture=True) == chunks


def test_a_picture_makes_no_more_than_one_of_wans_latents() -> None:
    assert not replace(PUBLISHED, first_chunk=3).takes_picture


@given(st.sampled_from([BUNDLED, PUBLISHED]), st.integers(2, 2000))
def test_a_picture_and_what_follows_it_cover_the_frames(spec: LatentSpec, frames: int) -> None:
    chunks = spec.chunks(frames, from_picture=True)
    decoded = [spec.frames_of(spec.first_chunk + sum(chunks[:i]), size) for i, size in enumerate(chunks)]
    assert 1 + sum(decoded) >= frames > 1 + sum(decoded[:-1])


@given(st.integers(1, 200), st.integers(1, 40).flatmap(lambda t: st.tuples(st.just(t), st.integers(0, t - 1))))
def test_tiles_are_counted_as_they_are_laid(side: int, shape: tuple[int, int]) -> None:
    tile, overlap = shape
    laid = spans(side, tile, overlap)
    counted = replace(BUNDLED, tile=tile, tile_overlap=overlap).tiles(side)
    assert counted == (len(laid), sum(part.stop - part.start for part in laid))

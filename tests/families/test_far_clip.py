from __future__ import annotations

from pathlib import Path

import pytest
import torch

from videosvc.errors import UserError
from videosvc.families.anyflow_far import AnyFlowFAR
from videosvc.families.far_clip import FarClip


def open_clip(folder: Path, window_chunks: int | None, guidance_scale: float = 1.0, sink_chunks: int = 0) -> FarClip:
    family = AnyFlowFAR("tiny", folder, window_chunks, torch.device("cpu"), torch.float32, sink_chunks=sink_chunks)
    clip = family.open_clip(64, 64, family.encode_text("a red circle", ""), guidance_scale)
    assert isinstance(clip, FarClip)
    return clip


def chunk(seed: int) -> torch.Tensor:
    return torch.randn(1, 16, 2, 8, 8, generator=torch.Generator().manual_seed(seed))


TOKENS = 2 * 4 * 4  # of a chunk at 64x64
TOKEN_BYTES = 2 * 2 * 48 * 4  # layers, key and value, channels, float32


@torch.inference_mode()
def test_a_window_bounds_the_cache(causal_folder: Path) -> None:
    clip = open_clip(causal_folder, window_chunks=1)
    sizes = []
    for seed in range(4):
        clip.append(chunk(seed))
        sizes.append(clip.cache_bytes)
    assert sizes == [TOKENS * TOKEN_BYTES] * 4


@torch.inference_mode()
def test_what_left_the_window_leaves_no_trace(causal_folder: Path) -> None:
    """With a window of one, the chunk before is all that matters, but for the positions counted so far."""
    clips = [open_clip(causal_folder, window_chunks=1) for _ in range(2)]
    for first, clip in enumerate(clips):
        clip.append(chunk(first))
        clip.append(chunk(7))
    assert torch.equal(clips[0].denoise(chunk(8), 1.0, 0.5), clips[1].denoise(chunk(8), 1.0, 0.5))


@torch.inference_mode()
def test_chunks_past_the_limit_turn_coarse(causal_folder: Path) -> None:
    clip = open_clip(causal_folder, window_chunks=None)
    sizes = []
    for seed in range(5):
        clip.append(chunk(seed))
        sizes.append(clip.cache_bytes / (TOKENS * TOKEN_BYTES))
    assert sizes == [1, 2, 2.25, 2.5, 2.75]  # a coarse token stands for four


@torch.inference_mode()
def test_a_window_drops_coarse_chunks_too(causal_folder: Path) -> None:
    clip = open_clip(causal_folder, window_chunks=3)
    for seed in range(6):
        clip.append(chunk(seed))
    assert clip.cache_bytes == 2.25 * TOKENS * TOKEN_BYTES


@torch.inference_mode()
@pytest.mark.parametrize(
    ("window", "sinks", "sizes"),
    [
        (1, 1, [1, 2, 2, 2, 2, 2]),  # no more in full than the model was trained to see: two
        (2, 1, [1, 2, 2.25, 2.25, 2.25, 2.25]),  # the sink turns coarse
        (1, 2, [1, 2, 2.25, 2.25, 2.25, 2.25]),  # the first sink does, and the second is one of the two in full
        (1, 3, [1, 2, 2.25, 2.5, 2.5, 2.5]),
        (3, 1, [1, 2, 2.25, 2.5, 2.5, 2.5]),
    ],
)
def test_sinks_stay_and_memory_is_bounded(causal_folder: Path, window: int, sinks: int, sizes: list[float]) -> None:
    clip, other = (open_clip(causal_folder, window, sink_chunks=sinks) for _ in range(2))
    held = []
    for seed in range(len(sizes)):
        clip.append(chunk(seed))
        other.append(chunk(100 + seed if seed < sinks else seed))
        held.append(clip.cache_bytes / (TOKENS * TOKEN_BYTES))
        assert len(clip._full) <= 2
    assert held == sizes
    # Chunks that rolled out of the window are the same in both: what differs are the sinks.
    assert not torch.equal(clip.denoise(chunk(50), 1.0, 0.5), other.denoise(chunk(50), 1.0, 0.5))
    (first, _), (others, _) = ((one.cache.context(0, 1) or (None, None)) for one in (clip, other))
    assert first is not None and others is not None and not torch.equal(first, others)


@torch.inference_mode()
@pytest.mark.parametrize("guidance_scale", [1.0, 2.5])
def test_denoising_changes_no_state(causal_folder: Path, guidance_scale: float) -> None:
    clip = open_clip(causal_folder, 1, guidance_scale)
    clip.append(chunk(0))
    before = clip.cache_bytes
    first = clip.denoise(chunk(1), 1.0, 0.5)
    clip.denoise(chunk(2), 0.5, 0.0)
    assert torch.equal(clip.denoise(chunk(1), 1.0, 0.5), first)
    assert clip.cache_bytes == before
    assert first.shape == chunk(1).shape


@torch.inference_mode()
def test_prompt_time_and_target_matter(causal_folder: Path) -> None:
    family = AnyFlowFAR("tiny", causal_folder, 1, torch.device("cpu"), torch.float32)
    red, blue = (family.open_clip(64, 64, family.encode_text(text, None), 1.0) for text in ("red", "the blue sea"))
    base = red.denoise(chunk(0), 1.0, 0.5)
    for other in (
        blue.denoise(chunk(0), 1.0, 0.5),
        red.denoise(chunk(0), 0.9, 0.5),
        red.denoise(chunk(0), 1.0, 0.4),
    ):
        assert (other - base).abs().max() > 1e-4


def test_refuses_sizes_off_the_grid_and_guidance_without_a_negative(causal_folder: Path) -> None:
    family = AnyFlowFAR("tiny", causal_folder, 1, torch.device("cpu"), torch.float32)
    text = family.encode_text("red", None)
    with pytest.raises(UserError, match="size: 72x64: width and height must be multiples of 16"):
        family.open_clip(72, 64, text, 1.0)
    with pytest.raises(ValueError, match="guidance_scale"):
        family.open_clip(64, 64, text, 2.0)


def test_previews_change_no_frame(causal_folder: Path) -> None:
    frames = []
    for previews in (0, 2):
        clip = open_clip(causal_folder, window_chunks=1)
        with torch.inference_mode():
            frames.append(clip.decode(chunk(0)))
        for seed in range(previews):
            frame = clip.preview(chunk(seed))  # outside inference mode, as from a worker
            assert frame.shape == (64, 64, 3) and frame.dtype == torch.uint8
        with torch.inference_mode():
            frames.append(clip.decode(chunk(1)))
    assert torch.equal(frames[0], frames[2]) and torch.equal(frames[1], frames[3])

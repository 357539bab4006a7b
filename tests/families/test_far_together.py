"""Several clips in one forward: each gets what it would get alone."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from videosvc.families.anyflow_far import AnyFlowFAR
from videosvc.families.base import Clip, Jump
from videosvc.families.compiled_blocks import compile_refusal
from videosvc.families.load_levers import LoadLevers

BOUND = 1e-5  # of the largest velocity, in float32; measured: 6e-7


def load(folder: Path, weights: str = "native", compiled: bool = False) -> AnyFlowFAR:
    return AnyFlowFAR("tiny", folder, 2, torch.device("cpu"), torch.float32, LoadLevers(weights, compiled))


def latents(generator: torch.Generator) -> Tensor:
    return torch.randn(1, 16, 2, 6, 8, generator=generator)


def open_clips(
    family: AnyFlowFAR,
    finished: list[int],
    generator: torch.Generator,
    frame_cache: str = "native",
    guided: bool = False,
) -> list[Clip]:
    """One for each number, which is of chunks that it has behind it."""
    clips = []
    for number, chunks in enumerate(finished):
        text = family.encode_text(("a red circle", "the blue sea", "a square moves left")[number % 3], "over")
        clip = family.open_clip(64, 48, text, 3.0 if guided and number % 2 else 1.0, frame_cache)
        for _ in range(chunks):
            clip.append(latents(generator))
        clips.append(clip)
    return clips


def agree(family: AnyFlowFAR, jumps: list[Jump]) -> None:
    alone = [jump.clip.denoise(jump.latents, jump.t, jump.r) for jump in jumps]
    together = family.denoise_together(jumps)
    for one, other in zip(alone, together, strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype
        assert (one - other).abs().max() <= BOUND * one.abs().max()


@torch.inference_mode()
@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("frame_cache", ["native", "int8", "int4"])
@pytest.mark.parametrize("finished", [[0, 0], [2, 2, 2], [0, 1, 2, 4]])
def test_clips_at_any_chunk_and_step(causal_folder: Path, finished: list[int], frame_cache: str, guided: bool) -> None:
    family = load(causal_folder)
    generator = torch.Generator().manual_seed(torch.seed() % 2**32)  # fresh each time
    clips = open_clips(family, finished, generator, frame_cache, guided)
    times = torch.rand(len(clips), 2, generator=generator).sort(descending=True).values.tolist()
    agree(family, [Jump(clip, latents(generator), t, r) for clip, (t, r) in zip(clips, times, strict=True)])
    agree(family, [Jump(clip, latents(generator), 1.0, 0.5) for clip in clips])


@torch.inference_mode()
def test_in_int8_weights(causal_folder: Path) -> None:
    """Activations are quantised token by token, so a code can differ by one where a rounding does."""
    family = load(causal_folder, "int8")
    generator = torch.Generator().manual_seed(0)
    jumps = [Jump(clip, latents(generator), 0.8, 0.3) for clip in open_clips(family, [0, 1, 3], generator)]
    alone = [jump.clip.denoise(jump.latents, jump.t, jump.r) for jump in jumps]
    for one, other in zip(alone, family.denoise_together(jumps), strict=True):
        assert (one - other).abs().max() <= 0.01 * one.abs().max()


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, while it compiles
@torch.inference_mode()
def test_compiled_a_company_of_any_size_waits_for_no_code_of_its_own(causal_folder: Path) -> None:
    if reason := compile_refusal(torch.device("cpu")):
        pytest.skip(reason)
    family = load(causal_folder, compiled=True)
    compiled = counters["stats"]["unique_graphs"]
    assert compiled > 0
    generator = torch.Generator().manual_seed(3)
    for finished in ([0, 0], [1, 1, 1], [0, 1, 2, 4], [2] * 5):
        clips = open_clips(family, finished, generator, guided=len(finished) > 3)
        agree(family, [Jump(clip, latents(generator), 1.0, 0.5) for clip in clips])
        agree(family, [Jump(clip, latents(generator), 0.9 - 0.1 * n, 0.3) for n, clip in enumerate(clips)])
    assert counters["stats"]["unique_graphs"] == compiled


@torch.inference_mode()
def test_clips_join_and_leave(causal_folder: Path) -> None:
    """Texts are joined once a company: another company, even of as many, must not hear the last one's."""
    family = load(causal_folder)
    generator = torch.Generator().manual_seed(1)
    red, blue, square = open_clips(family, [1, 0, 2], generator)
    for company in ([red, blue], [red, blue], [red, square], [square, red], [red], [red, blue, square], [blue, square]):
        agree(family, [Jump(clip, latents(generator), 0.9, 0.1) for clip in company])
        red.append(latents(generator))


@torch.inference_mode()
def test_a_company_keeps_no_clip_alive(causal_folder: Path) -> None:
    family = load(causal_folder)
    generator = torch.Generator().manual_seed(2)
    clips = open_clips(family, [0, 0], generator)
    family.denoise_together([Jump(clip, latents(generator), 1.0, 0.0) for clip in clips])
    ends = [weakref.ref(clip) for clip in clips]
    del clips
    gc.collect()
    assert [end() for end in ends] == [None, None]

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tiny_model import make_tiny_checkpoint
from training.toyworld.world import render
from videosvc.config.models import ModelEntry
from videosvc.config.size import Size
from videosvc.errors import UserError
from videosvc.pricing.clip_frames import Frames
from videosvc.pricing.clip_score import ClipScore
from videosvc.pricing.probe_score import ProbeScore, held_out_captions
from videosvc.pricing.reference_score import ReferenceScore, resized, ssim
from videosvc.pricing.scores import choose_score


def picture(seed: int, side: int = 32, frames: int = 4) -> NDArray[np.uint8]:
    """(T, H, W, 3): smooth, as pictures are."""
    coarse = np.random.default_rng(seed).integers(0, 256, (frames, side // 8, side // 8, 3), dtype=np.uint8)
    return resized(coarse, Size(side, side))


def noisy(pixels: NDArray[np.uint8], amount: float) -> NDArray[np.uint8]:
    noise = np.random.default_rng(1).normal(0, 1, pixels.shape)
    return (pixels + amount * noise).clip(0, 255).astype(np.uint8)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), other=st.integers(0, 10**6))
def test_ssim_is_one_for_the_same_and_the_same_both_ways(seed: int, other: int) -> None:
    x, y = picture(seed), picture(other)
    assert ssim(x, x) == pytest.approx(1)
    assert ssim(x, y) == pytest.approx(ssim(y, x)) and -1 <= ssim(x, y) <= 1


def test_ssim_by_hand_on_one_window() -> None:
    """Eq. 13 over the single whole window of an 11 x 11 picture."""
    x, y = picture(1, 16, 1)[:, :11, :11], picture(2, 16, 1)[:, :11, :11]
    offsets = np.arange(-5, 6)
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = (np.outer(line, line) / line.sum() ** 2)[None, :, :, None]
    mean_x, mean_y = (window * x).sum((1, 2)), (window * y).sum((1, 2))
    var_x, var_y = (
        (window * x.astype(float) ** 2).sum((1, 2)) - mean_x**2,
        (window * y.astype(float) ** 2).sum((1, 2)) - mean_y**2,
    )
    both = (window * x.astype(float) * y).sum((1, 2)) - mean_x * mean_y
    c1, c2 = 6.5025, 58.5225
    by_hand = (2 * mean_x * mean_y + c1) * (2 * both + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    assert ssim(x, y) == pytest.approx(by_hand.mean())


def test_nearer_to_the_reference_is_better_and_smaller_is_worse() -> None:
    large, small = picture(1, 64), picture(2, 32)  # of other noise, so another clip
    judge = ReferenceScore().judge(0, "", {Size(32, 32): Frames(small, 8), Size(64, 64): Frames(large, 8)})
    assert judge(Frames(large, 8)) == pytest.approx(1)
    ladder = [judge(Frames(noisy(large, amount), 8)) for amount in (0, 4, 16, 64)]
    assert ladder == sorted(ladder, reverse=True) and ladder[0] > ladder[-1]
    assert judge(Frames(noisy(small, 16), 8)) < judge(Frames(small, 8)) < 1
    assert judge(Frames(255 - large, 8)) == 0  # upside down is no worse than nothing


def test_fewer_frames_are_held_and_so_are_worse_where_things_move() -> None:
    frames = picture(3, 32, 8)
    judge = ReferenceScore().judge(0, "", {Size(32, 32): Frames(frames, 8)})
    assert judge(Frames(frames[::2], 4)) < 1
    assert judge(Frames(frames[:7], 8)) == pytest.approx(1)  # rounding may cost a frame
    still = frames[:1].repeat(8, 0)
    judge = ReferenceScore().judge(0, "", {Size(32, 32): Frames(still, 8)})
    assert judge(Frames(still[:4], 4)) == pytest.approx(1)


@given(frames=st.integers(1, 20), fps=st.integers(1, 30), wanted=st.integers(1, 30))
def test_another_rate_shows_each_frame_at_its_time(frames: int, fps: int, wanted: int) -> None:
    clip = Frames(np.arange(frames, dtype=np.uint8)[:, None, None, None].repeat(3, 3), fps)
    shown = clip.at_rate(wanted).pixels[:, 0, 0, 0].tolist()
    assert shown == sorted(shown) and shown[0] == 0
    assert abs(len(shown) / wanted - frames / fps) <= max(0.5, 1) / wanted
    assert all(shown[n] == min(frames - 1, n * fps // wanted) for n in range(len(shown)))
    assert clip.at_rate(fps).pixels.tolist() == clip.pixels.tolist()


def test_the_probe_tells_right_from_wrong() -> None:
    scenes, captions = held_out_captions(6, seed=0)
    assert len(captions) == 6
    score = ProbeScore(scenes)
    clips = [Frames(render(scene, 64, 64, 16)[0].permute(0, 2, 3, 1).numpy(), 8) for scene in scenes]
    right = [score.judge(number, "", {})(clip) for number, clip in enumerate(clips)]
    wrong = [score.judge((number + 1) % 6, "", {})(clip) for number, clip in enumerate(clips)]
    assert sum(right) >= 5 and sum(wrong) == 0


@pytest.fixture(scope="module")
def clip_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of random weights and the words of the tiny model."""
    from transformers import CLIPConfig, CLIPModel

    folder = tmp_path_factory.mktemp("clip")
    tiny = make_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))
    shutil.copytree(tiny / "tokenizer", folder, dirs_exist_ok=True)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": 20, "max_position_embeddings": 8, "eos_token_id": 1, "bos_token_id": 0}
    config = CLIPConfig(text_config=text, vision_config={**small, "image_size": 16, "patch_size": 8}, projection_dim=8)
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    return folder


def test_a_clip_model_from_a_folder_judges_any_shape(clip_model: Path) -> None:
    score = ClipScore(clip_model, torch.device("cpu"))
    clip = Frames(picture(1, 64, 3)[:, :32], 8)
    prompts = ["a red circle moves left", "the blue square over the sea " * 5]
    values = [score.judge(0, prompt, {})(clip) for prompt in prompts]
    assert all(0 <= value <= 1 for value in values) and values[0] != values[1]
    assert score.judge(0, prompts[0], {})(clip) == values[0]


def test_a_folder_that_only_looks_like_a_clip_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(UserError, match=r"clip_model: .* cannot be loaded") as caught:
        ClipScore(tmp_path, torch.device("cpu"))
    assert "\n" not in caught.value.message


def test_the_best_score_there_is(entry: ModelEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = entry.model_copy(update={"path": "/models/other"})
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    assert choose_score(None, entry, None, None) == "probe"
    assert choose_score(None, entry, Path("prompts.txt"), None) == "reference"
    assert choose_score(None, other, None, None) == "reference"
    assert choose_score(None, entry, None, tmp_path) == "clip"
    for name in [name for name in sys.modules if name.split(".")[0] == "training"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "training", None)  # as where only the wheel is installed
    assert choose_score(None, entry, None, None) == "reference"
    with pytest.raises(UserError, match="score: the probe is only in a source checkout; use reference"):
        choose_score("probe", entry, None, None)


def test_scores_that_cannot_be(entry: ModelEntry, tmp_path: Path) -> None:
    other = entry.model_copy(update={"path": "/models/other"})
    with pytest.raises(UserError, match="score: 'beauty' is not one of probe, reference, clip"):
        choose_score("beauty", entry, None, None)
    with pytest.raises(UserError, match="score: the probe cannot read model 'toyworld'"):
        choose_score("probe", other, None, None)
    with pytest.raises(UserError, match="prompts: the probe asks for scenes of its own"):
        choose_score("probe", entry, Path("prompts.txt"), None)
    with pytest.raises(UserError, match="clip_model: goes with score clip"):
        choose_score("clip", entry, None, None)
    for content in (None, "[]", "{", json.dumps({"model_type": "bert"})):
        if content is not None:
            (tmp_path / "config.json").write_text(content)
        with pytest.raises(UserError, match="clip_model: "):
            choose_score("clip", entry, None, tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(UserError, match="clip_model: goes with score clip"):
        choose_score("reference", entry, None, tmp_path)

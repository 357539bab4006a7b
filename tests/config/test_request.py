from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from known_configs import known_configs, preset_text
from videosvc.config.presets import load_preset
from videosvc.config.request import MAX_SEED, Request, check_output, resolve_plan
from videosvc.config.settings import CHECKOUT_CONFIGS, PACKAGE, Settings
from videosvc.errors import UserError

BALLOON = Request("a red balloon", seed=7)


def _plan(request: Request) -> Any:
    return resolve_plan(request, CHECKOUT_CONFIGS, Settings()).plan


def test_what_is_not_said_comes_from_preset_and_model() -> None:
    plan, preset = _plan(BALLOON), load_preset(CHECKOUT_CONFIGS, "balanced").quality
    assert (plan.size, plan.fps, plan.steps, plan.sampler) == (preset.size, preset.fps, preset.steps, preset.sampler)
    assert (plan.model, plan.seconds, plan.guidance_scale, plan.seed) == ("toyworld", 2.0, 1.0, 7)
    assert plan.frames == 2 * preset.fps


def test_what_is_said_beats_preset_and_model() -> None:
    plan = _plan(replace(BALLOON, preset="draft", seconds=3, size="128x64", fps=16))
    assert (plan.size, plan.fps, plan.seconds, plan.frames) == ("128x64", 16, 3.0, 48)


def test_the_reference_has_the_models_guidance() -> None:
    plan = _plan(replace(BALLOON, preset="reference"))
    assert (plan.sampler, plan.guidance_scale) == ("euler", 1.0)


def test_a_seed_is_drawn_and_told() -> None:
    seeds = {_plan(Request("a fish")).seed for _ in range(3)}
    assert len(seeds) == 3
    assert all(0 <= seed <= MAX_SEED for seed in seeds)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("prompt", "", "prompt: must not be empty"),
        ("prompt", " \n\t", "prompt: must not be empty"),
        ("prompt", "a" * 501, "prompt: has 501 characters; at most 500"),
        ("prompt", "red " * 40, "prompt: 41 tokens; the model reads at most 32"),
        ("prompt", "a\0b", "prompt: must not contain a NUL"),
        ("prompt", "a\udcffb", "prompt: must be UTF-8"),
        ("negative_prompt", "a" * 501, "negative_prompt: has 501"),
        ("model", "sora", "model: 'sora' is unknown; there are toyworld"),
        ("preset", "ultra", "preset: 'ultra' is unknown; there are balanced"),
        ("seconds", 0.0, "seconds: 0 must be at least 0.125, a frame at 8 fps, and at most 8"),
        ("seconds", 1e-9, "seconds: 1e-09 must be at least 0.125"),
        ("seconds", -1.0, "seconds: -1 must"),
        ("seconds", 8.1, "seconds: 8.1 must"),
        ("seconds", 1e300, "seconds: 1e+300 must"),
        ("seconds", float("nan"), "seconds: nan must"),
        ("seconds", float("inf"), "seconds: inf must"),
        (
            "size",
            "70x64",
            "size: 70x64: model 'toyworld': width and height must be multiples of 16 from 64 to 128",
        ),
        ("size", "0x64", "size: '0x64' must be WIDTHxHEIGHT"),
        ("size", "64", "size: '64' must be WIDTHxHEIGHT"),
        ("size", "-64x64", "size: '-64x64' must be WIDTHxHEIGHT"),
        ("size", "99999x99999", "size: 99999x99999: model"),
        ("fps", 0, "fps: 0 must be from 1 to 16"),
        ("fps", 17, "fps: 17 must be from 1 to 16"),
        ("seed", -1, "seed: -1 must be from 0 to 9223372036854775807"),
        ("seed", 2**63, "seed: 9223372036854775808 must"),
    ],
)
def test_a_bad_value_names_its_option_and_what_is_allowed(field: str, value: Any, says: str) -> None:
    request = replace(BALLOON, **{field: value})
    with pytest.raises(UserError) as caught:
        _plan(request)
    assert caught.value.message.startswith(says)
    assert caught.value.param == field
    assert caught.value.exit_code == 2


def test_a_preset_with_levers_that_make_no_sense_is_refused(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text((CHECKOUT_CONFIGS / "models.toml").read_text())
    text = preset_text("draft")
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "draft.toml").write_text(text.replace('frame_cache = "native"', 'frame_cache = "off"'))
    with pytest.raises(UserError, match="lever frame_cache='off' makes no sense for family anyflow_far"):
        resolve_plan(replace(BALLOON, preset="draft"), tmp_path, Settings())


def test_a_preset_too_large_for_the_model_is_named(tmp_path: Path) -> None:
    models = (CHECKOUT_CONFIGS / "models.toml").read_text()
    models = models.replace("max_side = 128", "max_side = 64").replace(
        '["64x64", "96x96", "128x128"]', '["64x64"]'
    )
    (tmp_path / "models.toml").write_text(models)
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "quality.toml").write_text(preset_text("quality"))
    with pytest.raises(UserError, match=r"size: 128x128 \(from preset 'quality'\): model 'toyworld'"):
        resolve_plan(replace(BALLOON, preset="quality"), tmp_path, Settings())


@pytest.mark.parametrize("fps", range(1, 17))
def test_the_shortest_clip_that_is_told_of_is_one(fps: int) -> None:
    with pytest.raises(UserError) as caught:
        _plan(replace(BALLOON, seconds=0.01, fps=fps))
    least = float(caught.value.message.split("at least ")[1].split(",")[0])
    assert _plan(replace(BALLOON, seconds=least, fps=fps)).frames <= 2


def test_a_text_is_counted_where_the_model_is_and_left_to_the_workers_where_not(tmp_path: Path) -> None:
    long = replace(BALLOON, prompt="red " * 40)
    models = (CHECKOUT_CONFIGS / "models.toml").read_text()
    known_configs(tmp_path / "here").joinpath("models.toml").write_text(
        models.replace("bundled:toyworld", str(PACKAGE / "bundled" / "toyworld"))
    )
    with pytest.raises(UserError, match="prompt: 41 tokens"):
        resolve_plan(long, tmp_path / "here", Settings())
    known_configs(tmp_path / "elsewhere").joinpath("models.toml").write_text(
        models.replace("bundled:toyworld", "not/on/this/machine")
    )
    assert resolve_plan(long, tmp_path / "elsewhere", Settings()).plan.prompt == long.prompt.strip()


def test_a_negative_prompt_that_is_not_read_is_not_counted() -> None:
    assert _plan(replace(BALLOON, negative_prompt="red " * 40)).guidance_scale == 1.0


@given(
    seconds=st.floats(),
    fps=st.integers(-5, 50),
    size=st.from_regex(r"-?[0-9]{0,4}x[0-9]{0,4}", fullmatch=True),
)
def test_any_request_is_a_plan_within_limits_or_a_clear_refusal(seconds: float, fps: int, size: str) -> None:
    try:
        plan = _plan(replace(BALLOON, seconds=seconds, fps=fps, size=size))
    except UserError as error:
        assert error.param in {"seconds", "fps", "size"}
    else:
        assert 1 <= plan.frames <= 8 * 16
        assert plan.clip_seconds >= seconds - 1e-6
        assert plan.width % 16 == 0 and plan.height % 16 == 0


def test_output_may_be_a_new_file_in_a_folder_that_exists(tmp_path: Path) -> None:
    assert check_output(tmp_path / "a.mp4") == tmp_path / "a.mp4"
    assert check_output(Path("a.MP4")) == Path("a.MP4")


def test_output_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder.mp4").mkdir()
    for path, says in (
        (tmp_path / "none" / "a.mp4", "there is no folder"),
        (tmp_path / "folder.mp4", "is a folder"),
        (tmp_path / "a.avi", "must end in .mp4"),
        (Path(""), "must end in .mp4"),
    ):
        with pytest.raises(UserError, match=f"^output: .*{says}"):
            check_output(path)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(UserError, match="cannot be written to"):
        check_output(tmp_path / "a.mp4")


def test_an_output_name_too_long_for_any_file_is_named() -> None:
    with pytest.raises(UserError, match=r"^output: .* cannot be a file"):
        check_output(Path("a" * 300 + ".mp4"))

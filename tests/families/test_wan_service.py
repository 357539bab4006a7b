"""A Wan folder named in models.toml, from the command line to the file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tiny_wan import make_tiny_wan
from videosvc.cli.main import run
from videosvc.config.models import load_model
from videosvc.config.request import Request, resolve_plan
from videosvc.config.settings import CHECKOUT_CONFIGS, Settings
from videosvc.engine.plan import Plan
from videosvc.errors import PresetError
from videosvc.pricing.calibration import levers_of
from videosvc.pricing.shape import read_shape

MODEL = """
[[models]]
name = "film"
path = "film"
family = "wan"
attention = "math"
sizes = ["32x32"]
min_side = 32

[models.defaults]
seconds = 0.6
guidance_scale = 5.0
negative_prompt = "the sea"
"""
PRESET = """
[preset]
name = "film"
[quality]
size = "32x32"
fps = 8
steps = 4
sampler = "unipc"
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_wan(tmp_path_factory.mktemp("models") / "film")


@pytest.fixture
def configs(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = shutil.copytree(CHECKOUT_CONFIGS, tmp_path / "configs")
    (folder / "models.toml").write_text(MODEL.replace('path = "film"', f'path = "{checkpoint}"'))
    (folder / "presets" / "film.toml").write_text(PRESET)
    monkeypatch.setenv("VIDEOSVC_CONFIG_DIR", str(folder))
    return folder


def with_levers(configs: Path, levers: str, sampler: str = "unipc") -> None:
    text = PRESET.replace("unipc", sampler) + "[levers]\n" + levers
    (configs / "presets" / "film.toml").write_text(text)


def resolve(configs: Path) -> str:
    """The levers' part of a calibration's name for a plan of the preset."""
    return levers_of(resolve_plan(Request("a red circle", None, "film", "film"), configs, Settings()).plan)


def test_generate(configs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with_levers(configs, 'step_cache = "sea"')
    clip = tmp_path / "clip.mp4"
    asked = ["generate", "a red circle", "-o", str(clip), "--model", "film", "--preset", "film", "--json"]
    assert run(asked) == 0
    answer = json.loads(capfd.readouterr().out)
    assert (answer["plan"]["step_cache"], answer["plan"]["frames"], answer["plan"]["sampler"]) == ("sea", 5, "unipc")
    assert answer["receipt"]["charged_usd"] <= answer["receipt"]["quoted_usd"]
    assert clip.read_bytes()[4:8] == b"ftyp"


def test_check_says_what_it_can(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "check", str(checkpoint)]) == 0
    out = capsys.readouterr().out
    assert "family wan: WanTransformer3DModel and AutoencoderKLWan" in out
    assert "lever step_cache='taylor_seer' is supported" in out
    assert "lever frame_cache='int8' makes no sense for family wan (the whole clip is denoised at once" in out


@pytest.mark.parametrize(
    ("levers", "sampler", "says"),
    [
        ("", "flow_map", r"sampler='flow_map' needs a flow map.*allowed euler, unipc, consistency"),
        ('step_cache = "mag"', "unipc", "model 'film' has no mag_ratios in models.toml"),
        ('step_cache = "sea"\ncompile = true', "unipc", "cannot be with compile=true"),
        ('frame_cache = "int4"', "unipc", "denoised at once"),
    ],
)
def test_a_preset_that_it_cannot_take_is_refused(configs: Path, levers: str, sampler: str, says: str) -> None:
    with_levers(configs, levers, sampler)
    with pytest.raises(PresetError, match=says):
        resolve(configs)


def test_a_step_cache_is_calibrated_by_itself(configs: Path) -> None:
    plain = resolve(configs)
    with_levers(configs, 'step_cache = "first_block"')
    assert resolve(configs) == f"{plain}-first_block"


def test_a_plan_stored_before_there_were_step_caches_still_reads(configs: Path) -> None:
    plan = resolve_plan(Request("a red circle", None, "film", "film"), configs, Settings()).plan
    assert Plan.parse({name: value for name, value in plan.fields().items() if name != "step_cache"}) == plan


def test_it_is_priced_by_its_shape(configs: Path) -> None:
    shape = read_shape(load_model(configs, "film"))
    assert shape.spec.whole and (shape.layers, shape.width) == (3, 48)

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
    lines = capsys.readouterr().out.splitlines()
    for line in (
        "family wan: WanTransformer3DModel and AutoencoderKLWan",
        "lever step_cache='taylor_seer' is supported",
        "attention='math' in models.toml is supported",
        "attention = 'flash' needs a GPU, and this is a cpu",
        "offload of vae cannot be: it needs a GPU to come back from, and this is a cpu",
    ):
        assert line in lines
    for begins in (
        "lever frame_cache='int8' makes no sense for family wan (the whole clip is denoised at once",
        "lever step_cache='mag' cannot be: its ratios belong to a checkpoint",
        "window_chunks: does nothing for family wan",
    ):
        assert any(line.startswith(begins) for line in lines)


def test_mag_ratios_of_models_toml_count(configs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = configs / "models.toml"
    models.write_text(models.read_text().replace('attention = "math"', "mag_ratios = [1.0, 1.01]"))
    assert run(["models", "check", "film"]) == 0
    assert "lever step_cache='mag' is supported" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ('offload = ["vae"]', "model 'film': offload of vae cannot be: it needs a GPU to come back from"),
        ('offload = ["text_encoder", "vae"]', "model 'film': offload of text_encoder cannot be: it needs a GPU"),
        ('attention = "flash"', "model 'film': attention = 'flash' needs a GPU, and this is a cpu"),
    ],
)
def test_what_the_device_cannot_load_is_one_line(
    configs: Path, tmp_path: Path, setting: str, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    models = configs / "models.toml"
    models.write_text(models.read_text().replace('attention = "math"', setting))
    clip = tmp_path / "clip.mp4"
    assert run(["generate", "a red circle", "-o", str(clip), "--model", "film", "--preset", "film"]) == 2
    err = capfd.readouterr().err
    assert says in err and len(err.splitlines()) == 1 and not clip.exists()


@pytest.fixture
def auto(configs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of a service whose model says auto."""
    models = configs / "models.toml"
    models.write_text(models.read_text().replace('attention = "math"', 'attention = "auto"'))
    for preset in ("balanced", "draft", "quality", "reference"):
        (configs / "presets" / f"{preset}.toml").unlink()
    monkeypatch.setattr("videosvc.pricing.calibrate.ROUNDS", 1)
    monkeypatch.setenv("VIDEOSVC_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def test_auto_attention_is_measured_by_calibrate(auto: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "list"]) == 0
    assert "auto: native, unmeasured" in capfd.readouterr().out
    assert run(["calibrate", "--model", "film"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    path = auto / "quantized" / "cpu.film.attention.json"
    assert f"{path}: film attends by native on cpu: native " in out
    assert "cudnn cannot be: attention = 'cudnn' needs a GPU, and this is a cpu" in out
    measured = json.loads(path.read_text())
    assert measured["seconds"].keys() == {"native"} and measured["refused"].keys() == {"cudnn", "flash", "xformers"}
    assert run(["models", "list"]) == 0
    assert "auto: native, measured" in capfd.readouterr().out
    assert run(["doctor"]) in (0, 4)  # whatever else is here
    assert "ok    attention: film auto: native, measured\n" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("levers", "sampler", "says"),
    [
        ("", "flow_map", r"sampler='flow_map' needs a flow map.*allowed euler, unipc, consistency"),
        ('step_cache = "mag"', "unipc", "its ratios belong to a checkpoint, and models.toml has no mag_ratios"),
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

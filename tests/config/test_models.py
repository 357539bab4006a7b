from __future__ import annotations

from pathlib import Path

import pytest

from videosvc.config.models import load_model, load_models
from videosvc.config.settings import CHECKOUT_CONFIGS
from videosvc.config.size import Size
from videosvc.errors import ConfigError, ModelError

GOOD = """
[[models]]
name = "tiny"
path = "weights"
family = "anyflow_far"
sizes = ["64x64"]
"""
WAN = GOOD.replace("anyflow_far", "wan")


def _write(folder: Path, text: str) -> Path:
    (folder / "models.toml").write_text(text)
    return folder


def test_the_shipped_models() -> None:
    toyworld = load_models(CHECKOUT_CONFIGS)["toyworld"]
    assert toyworld.is_bundled
    assert toyworld.size_problem(Size(64, 128)) is None
    for size in (Size(48, 64), Size(72, 64), Size(64, 144)):
        assert "multiples of 16 from 64 to 128" in (toyworld.size_problem(size) or "")


def test_a_relative_path_is_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    assert load_model(_write(tmp_path, GOOD), "tiny").folder() == tmp_path / "weights"


def test_a_missing_folder(tmp_path: Path) -> None:
    entry = load_model(_write(tmp_path, GOOD), "tiny")
    with pytest.raises(ModelError, match=r"model 'tiny': no folder .*weights"):
        entry.folder()


def test_a_hub_id_needs_a_revision(tmp_path: Path) -> None:
    entry = load_model(_write(tmp_path, GOOD.replace('"weights"', '"owner/name"')), "tiny")
    with pytest.raises(ModelError, match="a hub id needs a revision"):
        entry.folder()


def test_a_hub_id_without_a_network_is_one_line(tmp_path: Path) -> None:
    pinned = f'"owner/name"\nrevision = "{"0" * 40}"'
    entry = load_model(_write(tmp_path, GOOD.replace('"weights"', pinned)), "tiny")
    with pytest.raises(ModelError, match="owner/name cannot be fetched") as caught:
        entry.folder()
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "models: is missing"),
        ("models = []", "models = "),
        (GOOD + GOOD, "'tiny' twice"),
        (GOOD.replace("anyflow_far", "ltx"), "models.0.family = 'ltx': must be 'anyflow_far' or 'wan'"),
        (GOOD.replace("64x64", "70x64"), "sizes has 70x64"),
        (GOOD.replace('"tiny"', '"auto"'), "models.0.name = 'auto': auto is what a request says"),
        (GOOD + 'attention = "flash"', "attention: does nothing for family anyflow_far (it has its own"),
        (GOOD + "mag_ratios = [1.0]", "mag_ratios: does nothing for family anyflow_far (its few steps"),
        (WAN + "window_chunks = 2", "window_chunks: does nothing for family wan (the whole clip is denoised at once"),
        (WAN + "sink_chunks = 1", "sink_chunks: does nothing for family wan"),
        (GOOD + 'offload = ["encoder"]', "models.0.offload.0 = 'encoder': must be 'text_encoder' or 'vae'"),
        (GOOD + "offload = true", "models.0.offload = True: must be a list of 'text_encoder', 'vae'"),
        (GOOD + "sink_chunks = 1", "sink_chunks needs window_chunks: without a window every chunk is kept"),
        (GOOD + "window_chunks = 2\nsink_chunks = -1", "models.0.sink_chunks = -1"),
        (GOOD + "grdi = 8", "models.0.grdi: unknown key; allowed here: attention, defaults, family"),
    ],
)
def test_a_mistake_names_file_and_key(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_models(_write(tmp_path, text))
    assert "models.toml" in caught.value.message
    assert says in caught.value.message


def test_how_it_is_loaded_is_told_from_other_ways(tmp_path: Path) -> None:
    extras = ("", 'attention = "auto"', 'attention = "flash"', 'offload = ["vae"]', 'offload = ["text_encoder", "vae"]')
    ways = [load_model(_write(tmp_path, WAN + extra + "\n" * number), "tiny") for number, extra in enumerate(extras)]
    assert ways[0].loading == "" and len({way.loading for way in ways}) == len(extras)


def test_an_unknown_model_lists_those_there_are() -> None:
    with pytest.raises(ModelError, match="model: 'sora' is unknown; there are toyworld"):
        load_model(CHECKOUT_CONFIGS, "sora")

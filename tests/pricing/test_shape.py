"""What a price counts on is checked where it is read: nothing that comes after it has to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tiny_model import make_tiny_checkpoint
from tiny_wan import make_tiny_wan
from videosvc.config.models import ModelEntry
from videosvc.errors import ModelError
from videosvc.pricing.shape import read_shape


def entry_of(folder: Path, family: str = "anyflow_far", grid: int = 16) -> ModelEntry:
    return ModelEntry(name="film", path=str(folder), family=family, sizes=("96x96",), grid=grid)


@pytest.mark.parametrize("family", ["anyflow_far", "wan"])
def test_a_grid_must_be_a_multiple_of_the_checkpoints(tmp_path: Path, family: str) -> None:
    """As of a checkpoint like Wan2.2-TI2V-5B's, whose grid is 32, under the default of 16."""
    folder = (make_tiny_checkpoint if family == "anyflow_far" else make_tiny_wan)(tmp_path)
    config = folder / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"scale_factor_spatial": 16}))
    assert read_shape(entry_of(folder, family, grid=96)).spec.grid == 32
    with pytest.raises(ModelError) as caught:
        read_shape(entry_of(folder, family))
    assert caught.value.message == "model 'film': grid = 16 in models.toml must be a multiple of 32, the checkpoint's"


@pytest.mark.parametrize(
    ("file", "damage", "says"),
    [
        ("transformer/config.json", {"patch_size": [1]}, "patch_size.1: is missing"),
        ("transformer/config.json", {"patch_size": "1x2x2"}, "patch_size = '1x2x2': must be a valid tuple"),
        ("transformer/config.json", {"compressed_patch_size": [0, 4, 4]}, "compressed_patch_size.0 = 0: must be"),
        ("transformer/config.json", {"chunk_partition": [0, 0]}, "chunk_partition.0 = 0: must be greater than 0"),
        ("transformer/config.json", {"chunk_partition": []}, "chunk_partition = []: "),
        ("transformer/config.json", {"num_layers": "8"}, "num_layers = '8': must be a valid integer"),
        ("transformer/config.json", {"attention_head_dim": None}, "attention_head_dim = None: must be a valid integer"),
        ("vae/config.json", {"scale_factor_spatial": -8}, "scale_factor_spatial = -8: must be greater than 0"),
    ],
)
def test_a_damaged_number_is_one_line_with_file_key_and_value(
    tmp_path: Path, file: str, damage: dict[str, Any], says: str
) -> None:
    folder = make_tiny_checkpoint(tmp_path)
    config = folder / file
    config.write_text(json.dumps(json.loads(config.read_text()) | damage))
    with pytest.raises(ModelError) as caught:
        read_shape(entry_of(folder))
    assert f"model 'film': {file}: {says}" in caught.value.message and "\n" not in caught.value.message

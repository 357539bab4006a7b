"""A model folder that cannot be used is one clear line, before anything runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from videosvc.errors import ModelError
from videosvc.families.anyflow_far import AnyFlowFAR
from videosvc.families.latent_spec import LatentSpec

WEIGHTS = "diffusion_pytorch_model.safetensors"


def load(folder: Path) -> AnyFlowFAR:
    return AnyFlowFAR("tiny", folder, None, torch.device("cpu"), torch.float32)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def cut_to_nothing(path: Path) -> None:
    path.write_bytes(b"")


def scramble(path: Path) -> None:
    path.write_bytes(b"\xff" * 4096)


def drop_a_tensor(path: Path) -> None:
    tensors = load_file(path)
    del tensors["proj_out.bias"]
    save_file(tensors, path, metadata={"format": "pt"})


def see_no_chunk_in_full(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "full_chunk_limit": 1}))


def say_fewer_layers(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_layers": 1}))


def shift_of_nothing(path: Path) -> None:
    path.write_text(json.dumps({"shift": 0}))


def other_class(path: Path) -> None:
    path.write_text(json.dumps({"_class_name": "AutoencoderKLMochi"}))


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        (f"transformer/{WEIGHTS}", truncate, f"transformer/{WEIGHTS} is truncated or damaged"),
        (f"transformer/{WEIGHTS}", cut_to_nothing, f"transformer/{WEIGHTS} is truncated or damaged"),
        (f"vae/{WEIGHTS}", scramble, f"vae/{WEIGHTS} is truncated or damaged"),
        ("text_encoder/model.safetensors", Path.unlink, "text_encoder/model.safetensors is missing"),
        (f"transformer/{WEIGHTS}", drop_a_tensor, "transformer: weights lack proj_out.bias"),
        ("transformer/config.json", say_fewer_layers, "transformer: its configuration has no room for blocks.1."),
        ("text_encoder/config.json", Path.unlink, "text_encoder/config.json is missing"),
        ("transformer/config.json", scramble, "transformer/config.json cannot be read"),
        ("transformer/config.json", see_no_chunk_in_full, "full_chunk_limit is 1, and only 2 or more is served"),
        ("vae/config.json", other_class, "vae/config.json: _class_name 'AutoencoderKLMochi' is not one of"),
        ("tokenizer/tokenizer.json", Path.unlink, "tokenizer cannot be loaded"),
        ("model_index.json", Path.unlink, "model_index.json is missing"),
        ("scheduler/scheduler_config.json", scramble, "scheduler/scheduler_config.json cannot be read"),
        ("scheduler/scheduler_config.json", shift_of_nothing, "shift = 0 must be a number above 0"),
    ],
)
def test_says_which_file(
    causal_folder: Path, tmp_path: Path, file: str, damage: Callable[[Path], None], message: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(causal_folder, folder)
    damage(folder / file)
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert message in caught.value.message and "\n" not in caught.value.message
    assert caught.value.message.startswith("model 'tiny': ")


def test_hash_tells_weights_apart(causal_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(causal_folder, folder)
    assert load(folder).model_hash == load(causal_folder).model_hash
    path = folder / "transformer" / WEIGHTS
    tensors = load_file(path)
    tensors["proj_out.bias"] += 1
    save_file(tensors, path, metadata={"format": "pt"})
    assert load(folder).model_hash != load(causal_folder).model_hash


def test_reads_how_the_model_cuts_time(causal_folder: Path, wan_folder: Path) -> None:
    assert load(causal_folder).spec == LatentSpec(16, 8, 4, 4, 2, 2, False, 16, tile=12, tile_overlap=4)
    wan = load(wan_folder)
    assert wan.spec == LatentSpec(16, 8, 4, 1, 1, 3, True, 16)
    assert wan.shift == 5.0

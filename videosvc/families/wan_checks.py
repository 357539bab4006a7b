"""Whether a folder is of a Wan that makes clips from text alone, told from its small files."""

from __future__ import annotations

from pathlib import Path

from videosvc.errors import ModelError
from videosvc.families.checks import read_json


def check_text_to_video(model: str, folder: Path) -> None:
    """Raises ModelError naming the file and what in it is not served: a second transformer, a picture to start from."""
    index = read_json(model, folder, "model_index.json")
    second = index.get("transformer_2") or [None, None]
    if index.get("boundary_ratio") is not None or second[1] is not None:
        problem = "model_index.json: a model of two transformers (transformer_2, boundary_ratio) is not served"
        raise ModelError(f"model {model!r}: {problem}", param="model")
    transformer = read_json(model, folder, "transformer/config.json")
    if transformer.get("image_dim") is not None or transformer.get("in_channels") != transformer.get("out_channels"):
        problem = "transformer/config.json: it starts from a picture (image_dim, in_channels), and only text is served"
        raise ModelError(f"model {model!r}: {problem}", param="model")
    vae = read_json(model, folder, "vae/config.json").get("_class_name")
    if vae != "AutoencoderKLWan":
        problem = f"vae/config.json: _class_name {vae!r} is not AutoencoderKLWan"
        raise ModelError(f"model {model!r}: {problem}", param="model")

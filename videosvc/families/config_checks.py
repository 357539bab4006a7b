"""Whether the numbers that are counted with stand in a folder's configurations, told before anything is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from videosvc.config.toml_file import first_problem
from videosvc.errors import ModelError
from videosvc.families.checks import read_json
from videosvc.families.latent_spec import TILES

Count = Annotated[int, Field(strict=True, gt=0)]
Patch = tuple[Count, Count, Count]  # latents in time, down, across


class _Transformer(BaseModel):
    in_channels: Count
    num_layers: Count
    num_attention_heads: Count
    attention_head_dim: Count
    patch_size: Patch
    compressed_patch_size: Patch | None = None
    chunk_partition: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None
    full_chunk_limit: Count | None = None


class _Autoencoder(BaseModel):
    scale_factor_spatial: Count | None = None
    scale_factor_temporal: Count | None = None


def check_configs(model: str, folder: Path) -> None:
    """Raises ModelError naming file, key, value and what is allowed."""
    for component, expected in (("transformer", _Transformer), ("vae", _Autoencoder)):
        file = f"{component}/config.json"
        config = read_json(model, folder, file)
        try:
            expected.model_validate(config)
        except ValidationError as error:
            _, problem = first_problem(error, expected)
            raise ModelError(f"model {model!r}: {file}: {problem}", param="model") from error
    check_autoencoder(model, read_json(model, folder, "vae/config.json").get("_class_name"))


def check_autoencoder(model: str, class_name: object) -> None:
    """Raises ModelError naming those that there are."""
    if class_name not in TILES:
        problem = f"vae/config.json: _class_name {class_name!r} is not one of {', '.join(TILES)}"
        raise ModelError(f"model {model!r}: {problem}", param="model")

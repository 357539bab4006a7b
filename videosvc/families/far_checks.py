"""Whether a folder is of a causal AnyFlow model that can be served chunk by chunk, told from its small files."""

from __future__ import annotations

from pathlib import Path

from videosvc.errors import ModelError
from videosvc.families.checks import read_json
from videosvc.families.config_checks import check_configs

LEAST_CHUNKS = 2  # seen in full: the one being denoised, and the one before it


def check_full_chunk_limit(model: str, folder: Path) -> None:
    """Raises ModelError if the model was not made to see its last finished chunk in full."""
    limit = read_json(model, folder, "transformer/config.json").get("full_chunk_limit")
    if not isinstance(limit, int) or limit < LEAST_CHUNKS:
        problem = f"transformer/config.json: full_chunk_limit is {limit!r}, and only {LEAST_CHUNKS} or more is served"
        raise ModelError(f"model {model!r}: {problem}", param="model")


def far_head_dim(model: str, folder: Path) -> int:
    """Numbers of a key. Raises ModelError."""
    check_configs(model, folder)
    head_dim: int = read_json(model, folder, "transformer/config.json")["attention_head_dim"]
    return head_dim

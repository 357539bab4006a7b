"""What of a model its costs depend on, read from its folder's small files and file sizes: nothing is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from videosvc.config.models import ModelEntry
from videosvc.errors import ModelError
from videosvc.families.checks import TINY_DECODER, WEIGHTS, model_hash, read_json, weight_files
from videosvc.families.config_checks import check_configs
from videosvc.families.latent_spec import LatentSpec

STORED_BYTES = 2  # a weight as published checkpoints store it; where it is 4, the guess is careful


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A model as the cost model sees it. The weights only matter where nothing was measured."""

    spec: LatentSpec
    window_chunks: int | None  # finished chunks looked back on; None: all
    sink_chunks: int  # of the clip's start, looked back on besides
    full_chunks: int | None  # finished chunks seen in full, older ones coarsely; None: all, or there are no chunks
    coarse_share: float  # tokens of a coarse chunk, of those in full
    model_hash: str
    layers: int
    width: int  # of attention, all heads together
    transformer_weights: int
    text_weights: int
    vae_weights: int
    tiny_decoder_weights: int  # 0: there is none


def read_shape(entry: ModelEntry) -> ModelShape:
    """Raises ModelError naming the file that is missing or damaged, or the grid in models.toml that does not fit."""
    folder = entry.folder()
    check_configs(entry.name, folder)
    transformer = read_json(entry.name, folder, "transformer/config.json")
    vae = read_json(entry.name, folder, "vae/config.json")
    files = {
        component: weight_files(entry.name, folder, component, kind)
        for component, kind in (("transformer", "diffusers"), ("vae", "diffusers"), ("text_encoder", "transformers"))
    }
    weights = {name: sum(file.stat().st_size for file in found) // STORED_BYTES for name, found in files.items()}
    tiny = folder / TINY_DECODER / WEIGHTS["diffusers"][0]
    try:
        coarse_patch = transformer.get("compressed_patch_size") or transformer["patch_size"]
        shape = ModelShape(
            spec=LatentSpec.of(transformer, vae),
            window_chunks=entry.window_chunks,
            sink_chunks=entry.sink_chunks,
            full_chunks=transformer["full_chunk_limit"] - 1 if "full_chunk_limit" in transformer else None,
            coarse_share=prod(transformer["patch_size"]) / prod(coarse_patch),
            model_hash=model_hash(folder, [file for found in files.values() for file in found]),
            layers=transformer["num_layers"],
            width=transformer["num_attention_heads"] * transformer["attention_head_dim"],
            transformer_weights=weights["transformer"],
            text_weights=weights["text_encoder"],
            vae_weights=weights["vae"],
            tiny_decoder_weights=tiny.stat().st_size // STORED_BYTES if tiny.exists() else 0,
        )
    except (KeyError, TypeError) as error:
        message = f"model {entry.name!r}: its configuration lacks what a price needs ({error})"
        raise ModelError(message, param="model") from error
    if entry.grid % shape.spec.grid:
        allowed = f"must be a multiple of {shape.spec.grid}, the checkpoint's"
        raise ModelError(f"model {entry.name!r}: grid = {entry.grid} in models.toml {allowed}", param="model")
    return shape

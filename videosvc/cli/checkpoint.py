"""What a model folder holds, told from headers, and from checksums where there are any: torch is not needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from videosvc.config.models import FamilyName, ModelEntry
from videosvc.errors import ModelError
from videosvc.families.checks import model_hash, read_json, schedule_shift, weight_files
from videosvc.families.checksums import check_sums
from videosvc.families.config_checks import check_configs
from videosvc.families.far_checks import check_full_chunk_limit
from videosvc.families.prompt_length import load_tokenizer
from videosvc.families.wan_checks import check_text_to_video
from videosvc.pricing.shape import read_shape

FAMILY_OF_TRANSFORMER: dict[str, FamilyName] = {
    "AnyFlowFARTransformer3DModel": "anyflow_far",
    "WanTransformer3DModel": "wan",
}
COMPONENTS = (("transformer", "diffusers"), ("vae", "diffusers"), ("text_encoder", "transformers"))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder found whole."""

    name: str
    folder: Path
    family: FamilyName
    transformer: str
    vae: str
    weight_bytes: int
    model_hash: str


def inspect_entry(entry: ModelEntry) -> Checkpoint:
    """Raises ModelError naming the file that is missing, truncated, or not what the family or models.toml expects."""
    found = inspect_folder(entry.name, entry.folder(), entry.family)
    read_shape(entry)  # for what it refuses
    return found


def inspect_folder(name: str, folder: Path, family: FamilyName | None = None) -> Checkpoint:
    """Like `inspect_entry`; with no `family`, the transformer's class tells it."""
    read_json(name, folder, "model_index.json")
    transformer, vae = (_class_of(name, folder, component) for component in ("transformer", "vae"))
    found = FAMILY_OF_TRANSFORMER.get(transformer)
    if found is None or found != (family or found):
        known = ", ".join(FAMILY_OF_TRANSFORMER)
        raise ModelError(
            f"model {name!r}: transformer/config.json: no family here loads a {transformer}; known: {known}",
            param="model",
        )
    (check_text_to_video if found == "wan" else check_full_chunk_limit)(name, folder)
    check_configs(name, folder)
    files = [file for component, kind in COMPONENTS for file in weight_files(name, folder, component, kind)]
    load_tokenizer(name, folder)
    schedule_shift(name, folder)
    check_sums(name, folder)
    size = sum(file.stat().st_size for file in files)
    return Checkpoint(name, folder, found, transformer, vae, size, model_hash(folder, files))


def _class_of(name: str, folder: Path, component: str) -> str:
    return str(read_json(name, folder, f"{component}/config.json").get("_class_name"))

"""Which kernel a model that says `attention = "auto"` runs on: the fastest that `videosvc calibrate` found."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from videosvc.config.json_file import read_json_file
from videosvc.config.models import AttentionName
from videosvc.config.toml_file import Section
from videosvc.families.device_label import file_part

UNMEASURED: AttentionName = "native"
PACKAGES = ("torch", "diffusers", "flash-attn", "xformers")  # whose versions change how long attention takes


class AttentionChoice(Section):
    """What was measured, on one device."""

    format: Literal[1] = 1
    device: str
    model: str
    size: str
    frames: int
    versions: dict[str, str | None]
    seconds: dict[AttentionName, Annotated[float, Field(gt=0)]] = Field(min_length=1)  # of a step, the median
    refused: dict[AttentionName, str]  # why the others cannot be

    @property
    def best(self) -> AttentionName:
        return min(self.seconds, key=lambda name: self.seconds[name])


def choice_path(kept: Path, model: str, device: str) -> Path:
    """`kept`: the folder of what takes long to make; `device`: its label."""
    return kept / f"{file_part(device)}.{model}.attention.json"


def load_choice(kept: Path, model: str, device: str) -> AttentionChoice | None:
    """None if nothing was measured, or not with the packages that are installed now."""
    choice = read_json_file(choice_path(kept, model, device), AttentionChoice)
    return choice if choice is not None and choice.versions == installed() else None


def chosen(attention: AttentionName, kept: Path | None, model: str, device: str) -> AttentionName:
    """The backend that a model with this `attention` in models.toml runs on."""
    if attention != "auto":
        return attention
    choice = load_choice(kept, model, device) if kept is not None else None
    return UNMEASURED if choice is None else choice.best


def installed() -> dict[str, str | None]:
    return {package: _version(package) for package in PACKAGES}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

"""The models a service offers: models.toml."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, PrivateAttr, field_validator, model_validator

from videosvc.config.settings import PACKAGE
from videosvc.config.size import Size
from videosvc.config.toml_file import Section, parse_toml
from videosvc.errors import ConfigError, ModelError, UnknownModel

FamilyName = Literal["anyflow_far", "wan"]
AttentionName = Literal["auto", "native", "math", "cudnn", "flash", "sage", "xformers"]
OffloadedPart = Literal["text_encoder", "vae"]

BUNDLED = "bundled:"
AUTO = "auto"  # as a model's name in a request: whichever does it cheapest
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# Settings that would do nothing for a family, and why.
IDLE_SETTINGS: Mapping[FamilyName, Mapping[str, str]] = MappingProxyType(
    {
        "anyflow_far": {
            "attention": "it has its own, over the frame cache",
            "mag_ratios": "its few steps have no step cache",
        },
        "wan": dict.fromkeys(("window_chunks", "sink_chunks"), "the whole clip is denoised at once, as one chunk"),
    }
)


def idle_settings(family: FamilyName) -> dict[str, str]:
    """Of models.toml, by name: why `family` refuses it, in one line."""
    idle = IDLE_SETTINGS[family]
    return {name: f"{name}: does nothing for family {family} ({why}); leave it out" for name, why in idle.items()}


def _sizes(sizes: tuple[str, ...]) -> tuple[str, ...]:
    for size in sizes:
        Size.parse(size)
    return sizes


class ModelDefaults(Section):
    """What a request gets that does not say."""

    seconds: float = Field(2.0, gt=0)
    guidance_scale: float = Field(1.0, ge=1.0)  # 1.0: one forward a step, no negative prompt
    negative_prompt: str | None = None


class ModelEntry(Section):
    """One model: where it is, how it is loaded, what it can be asked for."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    # "bundled:NAME", a folder (relative to models.toml), or a hub id with the commit to take
    path: str = Field(min_length=1)
    revision: str | None = Field(None, pattern=r"^[0-9a-f]{40}$")
    family: FamilyName
    sizes: Annotated[tuple[str, ...], AfterValidator(_sizes)] = Field(min_length=1)  # to offer in a list
    grid: int = Field(16, ge=2)  # width and height are multiples of it
    min_side: int = Field(64, ge=2)
    max_side: int = Field(128, ge=2)
    fps: int = Field(8, ge=1)
    max_fps: int = Field(16, ge=1)
    max_seconds: float = Field(8.0, gt=0)
    window_chunks: int | None = Field(None, ge=1)  # finished chunks kept in the frame cache; None keeps all
    sink_chunks: int = Field(0, ge=0)  # of the clip's start, kept besides the window for as long as it goes on
    # Kernel, see families/attention_backend.py; auto: the fastest that `videosvc calibrate` measured. Family wan only.
    attention: AttentionName = "native"
    offload: tuple[OffloadedPart, ...] = ()  # what is on the GPU only while it is used
    # How much the blocks' residual grows from one step to the next in this checkpoint: step_cache = "mag" needs it.
    mag_ratios: tuple[Annotated[float, Field(gt=0)], ...] = ()
    defaults: ModelDefaults = ModelDefaults()

    _base: Path = PrivateAttr(default=Path())

    @field_validator("name")
    @classmethod
    def _name_is_free(cls, name: str) -> str:
        if name == AUTO:
            raise ValueError(f"{AUTO} is what a request says for whichever model does it cheapest")
        return name

    @field_validator("offload", mode="before")
    @classmethod
    def _offload_is_a_list(cls, parts: object) -> object:
        if not isinstance(parts, list | tuple):
            raise ValueError(f"must be a list of {', '.join(map(repr, get_args(OffloadedPart)))}")
        return parts

    @model_validator(mode="after")
    def _family_heeds_what_is_set(self) -> ModelEntry:
        for setting, line in idle_settings(self.family).items():
            if getattr(self, setting) != type(self).model_fields[setting].default:
                raise ValueError(line)
        return self

    @model_validator(mode="after")
    def _sinks_are_beside_a_window(self) -> ModelEntry:
        if self.sink_chunks and self.window_chunks is None:
            raise ValueError("sink_chunks needs window_chunks: without a window every chunk is kept")
        return self

    @model_validator(mode="after")
    def _sizes_are_allowed(self) -> ModelEntry:
        for size in self.sizes:
            problem = self.size_problem(Size.parse(size))
            if problem:
                raise ValueError(f"sizes has {size}: {problem}")
        return self

    def size_problem(self, size: Size) -> str | None:
        """What is wrong with a size, and what is allowed; None if nothing."""
        if all(self.min_side <= side <= self.max_side and side % self.grid == 0 for side in size):
            return None
        return (
            f"width and height must be multiples of {self.grid} from {self.min_side} to {self.max_side}, "
            f"such as {', '.join(self.sizes)}"
        )

    @property
    def is_bundled(self) -> bool:
        return self.path.startswith(BUNDLED)

    @property
    def loading(self) -> str:
        """What it is loaded with that changes how long things take; empty if nothing."""
        attention = "" if self.attention == "native" else self.attention
        return " ".join([*filter(None, [attention]), *(f"offload:{part}" for part in sorted(self.offload))])

    def folder_here(self) -> Path | None:
        """The checkpoint's folder, if it is on this machine already; nothing is fetched."""
        place = self._place()
        if place is None:
            from huggingface_hub import snapshot_download
            from huggingface_hub.errors import LocalEntryNotFoundError

            try:
                place = Path(snapshot_download(self.path, revision=self.revision, local_files_only=True))
            except (LocalEntryNotFoundError, ValueError, OSError):
                return None
        return place if place.is_dir() else None

    def folder(self) -> Path:
        """The checkpoint's folder on this machine; a hub id is fetched at its revision if it is not here yet.

        Raises ModelError if there is no such folder.
        """
        place = self._place() or self._fetch()
        if not place.is_dir():
            hint = "; a hub id needs a revision beside it" if HUB_ID.fullmatch(self.path) else ""
            raise ModelError(f"model {self.name!r}: no folder {place}{hint}", param="model")
        return place

    def _place(self) -> Path | None:
        """Where it must be; None if a hub has it."""
        if self.is_bundled:
            return PACKAGE / "bundled" / self.path.removeprefix(BUNDLED)
        return None if self.revision is not None else self._base / Path(self.path).expanduser()

    def _fetch(self) -> Path:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        try:
            return Path(snapshot_download(self.path, revision=self.revision))
        except (HfHubHTTPError, LocalEntryNotFoundError, ValueError, OSError) as error:
            reason = str(error).splitlines()[0]
            message = f"model {self.name!r}: {self.path} cannot be fetched: {reason}"
            raise ModelError(message, param="model") from error


class _ModelsFile(Section):
    models: tuple[ModelEntry, ...] = Field(min_length=1)


ORIGIN = ".origin"  # in a copy of a configuration folder: the folder that relative paths are meant from


def load_models(folder: Path) -> dict[str, ModelEntry]:
    """`folder`/models.toml by name, in the file's order. Raises ConfigError naming file, key and value."""
    path = folder / "models.toml"
    origin = folder / ORIGIN
    entries: dict[str, ModelEntry] = {}
    for entry in parse_toml(path, _ModelsFile).models:
        if entry.name in entries:
            raise ConfigError(f"{path}: models has {entry.name!r} twice", param="models")
        entry._base = Path(origin.read_text()) if origin.is_file() else folder
        entries[entry.name] = entry
    return entries


def load_model(folder: Path, name: str) -> ModelEntry:
    """Raises UnknownModel."""
    entries = load_models(folder)
    if name not in entries:
        raise UnknownModel(f"model: {reprlib.repr(name)} is unknown; there are {', '.join(entries)}", param="model")
    return entries[name]

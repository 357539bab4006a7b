"""What `videosvc calibrate` measured: one JSON file for each device, model and set of levers."""

from __future__ import annotations

import hashlib
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from videosvc import __version__
from videosvc.config.json_file import read_json_file, write_json_file
from videosvc.config.models import AttentionName
from videosvc.config.toml_file import Section
from videosvc.engine.plan import Plan
from videosvc.families.device_label import file_part
from videosvc.pricing.batching import BatchShare
from videosvc.pricing.coefficients import Coefficients
from videosvc.pricing.features import FEATURES, Kind

Seconds = Annotated[float, Field(ge=0)]
NOT_CALIBRATED = "not calibrated: quotes are guesses until `videosvc calibrate` has run"
LIBRARIES = ("torch", "diffusers")  # whose versions change how long things take
ATTENTION_PACKAGES = {"flash": "flash-attn", "sage": "sageattention", "xformers": "xformers"}  # the others are torch's


class Calibration(Section):
    """One measured fit."""

    format: Literal[1] = 1
    device: str
    model: str
    levers: str
    fingerprint: str  # of all that would make it stale
    versions: dict[str, str] = Field(default_factory=dict)  # of this package and the libraries that compute, for people
    measured_at: float = Field(gt=0)  # Unix seconds
    seconds: dict[Kind, dict[str, Seconds]]  # by kind of piece and feature
    cold_s: Seconds  # how much longer the first clip of a process takes
    residuals: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)  # measured / fitted, of each run
    batch: tuple[BatchShare, ...] = ()  # what a step costs in company

    @property
    def coefficients(self) -> Coefficients:
        """Raises KeyError if a feature of today is not in it."""
        by_kind = {kind: tuple(self.seconds[kind][name] for name in names) for kind, names in FEATURES.items()}
        return Coefficients(**by_kind)

    def save(self, path: Path) -> None:
        """Raises OSError."""
        write_json_file(path, self)


def load_calibration(path: Path, fingerprint: str) -> Calibration | None:
    """The fit in `path`; None if there is none, or it is damaged or stale: each is mended by a new one."""
    calibration = read_json_file(path, Calibration)
    if calibration is None or calibration.fingerprint != fingerprint:
        return None
    try:
        _ = calibration.coefficients
    except KeyError:
        return None
    return calibration


def calibration_path(data_dir: Path, device_name: str, model: str, plan: Plan) -> Path:
    """Where the fit for the levers of `plan` is kept."""
    return data_dir / "calibration" / f"{file_part(device_name)}.{model}.{levers_of(plan)}.json"


def device_log_path(data_dir: Path, device_name: str) -> Path:
    """Where the speed is kept that jobs of all fits on a device found."""
    return data_dir / "calibration" / f"{file_part(device_name)}.log"


def levers_of(plan: Plan) -> str:
    cached = "" if plan.step_cache == "none" else f"-{plan.step_cache}"
    return f"{plan.weights}-{plan.frame_cache}-{plan.decode}" + ("-compiled" if plan.compile else "") + cached


def versions() -> dict[str, str]:
    return {"videosvc": __version__, **{library: version(library) for library in LIBRARIES}}


def fingerprint_of(model_hash: str, loading: str = "", attention: AttentionName = "native") -> str:
    """Changes with the model's weights, this package, the libraries that compute, and the number of CPUs.

    `loading`: what models.toml says of how it is loaded, if anything (`ModelEntry.loading`); `attention`: the kernel
    that it attends by then, whose package counts as well (`attention_choice.chosen`).
    """
    parts = [model_hash, *versions().values(), str(os.cpu_count())]
    parts += [loading] if loading else []
    if attention != "native":
        parts += [attention, _version_or_none(ATTENTION_PACKAGES.get(attention, "torch"))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _version_or_none(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"

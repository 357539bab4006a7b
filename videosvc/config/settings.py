"""Settings of a process: environment (VIDEOSVC_...) beats service.toml beats default."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from videosvc.config.toml_file import Section, first_problem, read_toml
from videosvc.errors import ConfigError

PACKAGE = Path(__file__).resolve().parent.parent
PACKAGED_CONFIGS = PACKAGE / "bundled" / "configs"
CHECKOUT_CONFIGS = PACKAGE.parent / "configs"

ENV_PREFIX = "VIDEOSVC_"


def _written(pattern: str, allowed: str) -> AfterValidator:
    """Text that fits `pattern`; what does not is told in words what is allowed."""

    def check(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(f"must be {allowed}")
        return text

    return AfterValidator(check)


Origin = Annotated[str, _written(r"https?://[^/\s]+", "an origin, such as https://example.com")]


def _database_url(url: str) -> str:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        driver = make_url(url).drivername
    except (ArgumentError, ValueError):  # a port that is none
        driver = ""
    if driver not in ("sqlite", "postgresql+psycopg") or not re.match(r"(sqlite:///|postgresql\+psycopg://).", url):
        raise ValueError(f"must be {DATABASE_URLS}")
    return url


def _redis_url(url: str) -> str:
    from redis.connection import parse_url

    try:
        parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError as error:  # its own text may quote half of a password
        raise ValueError(f"must be {REDIS_URLS}") from error
    return url


def _whole_path(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:  # a user without a home, as in a container under a number
        raise ValueError(f"there is no home folder; set {ENV_PREFIX}DATA_DIR") from error


def _comma_separated(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _in_data_dir(url: str) -> Callable[[dict[str, Any]], str]:
    """A default that stands in the data folder; without a good one its own mistake is what is told."""
    return lambda values: url.format(values.get("data_dir", ""))


DATABASE_URLS = "sqlite:////path/file.db or postgresql+psycopg://user:password@host:port/name"
ARTIFACT_URLS = "file:///folder or s3://bucket/prefix"
DEVICES = "auto, cpu, cuda or cuda:N"
REDIS_URLS = "redis://user:password@host:6379/0, rediss:// and the same, or unix:///path/redis.sock"
MAY_HOLD_PASSWORDS = ("database_url", "redis_url", "artifact_url")  # not shown where they are wrong


class TierPrices(Section):
    """What each tier multiplies a price by."""

    interactive: float = Field(1.0, ge=0, le=100)
    batch: float = Field(0.6, ge=0, le=100)

    @field_validator("batch")
    @classmethod
    def _waiting_costs_no_more(cls, batch: float, info: ValidationInfo) -> float:
        interactive = info.data.get("interactive")
        if interactive is not None and batch > interactive:
            raise ValueError(f"must be at most that of interactive, {interactive:g}")
        return batch


class Settings(BaseSettings):
    """What a process may be told: keys of service.toml, or VIDEOSVC_ and the key in upper case."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    model: str = Field("toyworld", description="the model of a request that names none")
    preset: str = Field("balanced", description="the preset of a request that names none")
    device: Annotated[str, _written(r"auto|cpu|cuda(:\d+)?", DEVICES)] = Field("auto", description=DEVICES)

    data_dir: Annotated[Path, AfterValidator(_whole_path)] = Field(
        Path("~/.local/share/videosvc"),
        validate_default=True,
        description="database, clips, checkpoints and calibration, where they are not put elsewhere",
    )
    database_url: Annotated[str, AfterValidator(_database_url)] = Field(
        default_factory=_in_data_dir("sqlite:///{}/videosvc.db"), description=DATABASE_URLS
    )
    redis_url: Annotated[str, AfterValidator(_redis_url)] | None = Field(
        None, description="redis://host:6379/0; not given: `videosvc serve` brings its own"
    )
    artifact_url: Annotated[str, _written(r"[a-z0-9]+://.+", ARTIFACT_URLS)] = Field(
        default_factory=_in_data_dir("file://{}/artifacts"), description=f"where clips are kept: {ARTIFACT_URLS}"
    )

    tier_prices: TierPrices = Field(TierPrices(), description="what each tier multiplies a price by")

    host: str = Field("127.0.0.1", min_length=1, description="the address that the API listens on")
    port: int = Field(8000, ge=0, le=65535, description="0 takes a free one")
    workers: int | None = Field(
        None, ge=0, le=64, description="workers beside the API; not given: one a GPU, one on a machine without"
    )
    max_batch: int = Field(
        4, ge=0, le=64, description="jobs that a worker denoises together where that was measured to pay; 0 or 1: none"
    )
    insecure: bool = Field(False, description="serve without API keys on an address that is not loopback")
    cors_origins: Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(_comma_separated)] = Field(
        (), description="web origins whose pages may call the API; with commas between them in the environment"
    )
    max_body_bytes: int = Field(16 * 2**20, ge=1024, description="larger request bodies are refused")

    retention_s: float = Field(
        86400.0, gt=0, description="how long a clip, and what its tenant wrote, is kept after its job's end"
    )
    history_s: float = Field(
        400 * 86400.0, ge=86400, description="how long a job's row and receipt are kept after its clip was removed"
    )
    lease_s: float = Field(30.0, ge=1, description="a job whose worker is silent for so long is given to another")
    drain_s: float = Field(10.0, ge=0, description="how long a stopped worker may finish its job before giving it back")
    webhook_allow_private: bool = Field(False, description="let webhooks go to private addresses")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The file comes in as init values, and here the environment goes before them."""
        return env_settings, init_settings

    def make_data_dir(self) -> None:
        """Raises ConfigError if there can be no such folder, or it cannot be written to."""
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            problem = "it is a file" if self.data_dir.is_file() else error.strerror
            raise ConfigError(f"data_dir: there can be no folder {self.data_dir}: {problem}", "data_dir") from error
        if not os.access(self.data_dir, os.W_OK | os.X_OK):
            raise ConfigError(f"data_dir: the folder {self.data_dir} cannot be written to", param="data_dir")


def config_dir() -> Path:
    """Where models.toml and presets/ are: VIDEOSVC_CONFIG_DIR, else ./configs, else what the package ships.

    A ./configs without a models.toml is somebody else's and is passed over.
    Raises ConfigError if the variable names no folder.
    """
    variable = ENV_PREFIX + "CONFIG_DIR"
    named = os.environ.get(variable)
    if named:
        if not Path(named).is_dir():
            raise ConfigError(f"{variable} = {named!r}: no such folder", param=variable)
        return Path(named)
    local = Path("configs")
    if (local / "models.toml").is_file():
        return local
    # A wheel carries the files inside the package; a checkout has them at its top level only.
    return PACKAGED_CONFIGS if PACKAGED_CONFIGS.is_dir() else CHECKOUT_CONFIGS


def load_settings(folder: Path) -> Settings:
    """Settings of this process, with `folder`/service.toml (which may be missing) below the environment."""
    path = folder / "service.toml"
    values = read_toml(path) if path.is_file() else {}
    try:
        return Settings(**values)
    except ValidationError as error:
        key, message = first_problem(error, Settings)
        if key in MAY_HOLD_PASSWORDS:
            message = f"{key}: {error.errors()[0]['msg'].removeprefix('Value error, ')}"
        variable = ENV_PREFIX + key.partition(".")[0].upper()
        if variable in os.environ:
            told = message.removeprefix(f"{key} = ").removeprefix(f"{key}: ") if "." not in key else message
            raise ConfigError(f"{variable}: {told}", param=variable) from error
        raise ConfigError(f"{path}: {message}", param=key) from error

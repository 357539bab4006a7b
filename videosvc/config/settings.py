"""Settings of a process: environment (VIDEOSVC_...) beats service.toml beats default."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from videosvc.config.toml_file import first_problem, read_toml
from videosvc.errors import ConfigError

PACKAGE = Path(__file__).resolve().parent.parent
PACKAGED_CONFIGS = PACKAGE / "bundled" / "configs"
CHECKOUT_CONFIGS = PACKAGE.parent / "configs"

ENV_PREFIX = "VIDEOSVC_"


class Settings(BaseSettings):
    """What a process may be told: keys of service.toml, or VIDEOSVC_ and the key in upper case."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True)

    model: str = Field("toyworld", description="the model of a request that names none")
    preset: str = Field("balanced", description="the preset of a request that names none")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")

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
        variable = ENV_PREFIX + key.upper()
        if variable in os.environ:
            raise ConfigError(f"{variable}: {message}", param=variable) from error
        raise ConfigError(f"{path}: {message}", param=key) from error

"""What a device costs and draws: devices.toml."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import Field

from videosvc.config.toml_file import Section, parse_toml
from videosvc.errors import ConfigError

MAX_USD, MAX_WATTS = 1e6, 1e6  # beyond them it is a slip of the keyboard


class DeviceRate(Section):
    """`pattern` is a shell pattern over the device's name, in any case; the first that fits counts."""

    pattern: str = Field(min_length=1)
    usd_per_hour: float = Field(ge=0, le=MAX_USD)
    watts: float = Field(gt=0, le=MAX_WATTS)


class DeviceRates(Section):
    devices: tuple[DeviceRate, ...] = ()

    def rate_of(self, device_name: str) -> DeviceRate:
        """Raises ConfigError if there is none."""
        lowered = device_name.lower()
        for rate in self.devices:
            if fnmatchcase(lowered, rate.pattern.lower()):
                return rate
        message = f"devices.toml: no pattern fits device {device_name!r}; add one with its price"
        raise ConfigError(message, param="devices")


def load_devices(folder: Path) -> DeviceRates:
    """`folder`/devices.toml; none is no rates. Raises ConfigError naming file, key and value."""
    path = folder / "devices.toml"
    return parse_toml(path, DeviceRates) if path.is_file() else DeviceRates()

"""What a device costs and draws: devices.toml."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import Field

from videosvc.config.toml_file import Section, parse_toml

MAX_USD, MAX_WATTS = 1e6, 1e6  # beyond them it is a slip of the keyboard


class DeviceRate(Section):
    """`pattern` is a shell pattern over the device's name, in any case; the first that fits counts."""

    pattern: str = Field(min_length=1)
    usd_per_hour: float = Field(ge=0, le=MAX_USD)
    watts: float = Field(gt=0, le=MAX_WATTS)


class DeviceRates(Section):
    devices: tuple[DeviceRate, ...] = ()

    def rate_of(self, device_name: str) -> DeviceRate | None:
        lowered = device_name.lower()
        return next((rate for rate in self.devices if fnmatchcase(lowered, rate.pattern.lower())), None)


def load_devices(folder: Path) -> DeviceRates:
    """`folder`/devices.toml; none is no rates. Raises ConfigError naming file, key and value."""
    path = folder / "devices.toml"
    return parse_toml(path, DeviceRates) if path.is_file() else DeviceRates()

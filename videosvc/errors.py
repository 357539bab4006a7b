"""What may go wrong and how a caller is told: one line, and the option it is about."""

from __future__ import annotations

from decimal import Decimal


class UserError(Exception):
    """Something the caller can put right. `message` is one line; `param` is the option or field at fault."""

    def __init__(self, message: str, param: str | None = None, exit_code: int = 2) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.exit_code = exit_code


class ConfigError(UserError):
    """A configuration file or environment variable is wrong."""


class PresetError(ConfigError):
    """A preset is unknown, or its file is wrong."""


class UnknownPreset(PresetError):
    """There is no preset of this name."""


class ModelError(UserError):
    """A model is unknown, or its files are missing, damaged, or not what its family expects."""


class UnknownModel(ModelError):
    """models.toml has no model of this name."""


class ModelAway(ModelError):
    """The model's files are not on this machine yet."""


class Unreachable(UserError):
    """Nothing allowed reaches a goal. `nearest`: the best quality there is, or the fewest seconds."""

    def __init__(self, message: str, param: str, nearest: float) -> None:
        super().__init__(message, param)
        self.nearest = nearest


class GenerationError(Exception):
    """The job failed while it was running, and not for want of good input."""

    exit_code = 4


class EncoderStopped(GenerationError):
    """Somebody ended ffmpeg, as an init system does that stops every process of a service at once."""


class CapTooLow(UserError):
    """No plan that is allowed fits the cap. `cheapest_usd` is the price of the cheapest one."""

    code = "cap_too_low"

    def __init__(self, message: str, param: str, cheapest_usd: Decimal) -> None:
        super().__init__(message, param, exit_code=3)
        self.cheapest_usd = cheapest_usd

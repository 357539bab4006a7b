"""Which attention kernel a model runs on here, in words."""

from __future__ import annotations

from videosvc.config.models import ModelEntry
from videosvc.config.settings import Settings
from videosvc.engine.loading import device_name
from videosvc.families.attention_choice import UNMEASURED, load_choice


def attention_of(entry: ModelEntry, settings: Settings) -> str:
    """Raises ConfigError if there is no such device."""
    if entry.attention != "auto":
        return entry.attention
    choice = load_choice(settings.data_dir / "quantized", entry.name, device_name(settings.device))
    return f"auto: {UNMEASURED}, unmeasured" if choice is None else f"auto: {choice.best}, measured"

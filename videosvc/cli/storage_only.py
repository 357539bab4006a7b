"""What a lever saves on this device, for the commands that check files."""

from __future__ import annotations

from videosvc.config.settings import config_dir, load_settings


def storage_only_here(weights: str) -> str | None:
    """What the lever `weights` does not save on the device in the settings, and why; None if it saves all it can.

    Raises ConfigError if there is no such device.
    """
    if weights != "fp8":  # of the others it is true everywhere, and torch takes seconds to import
        return None
    from videosvc.engine.loading import pick_device
    from videosvc.families.low_bit_weights import storage_only

    return storage_only(weights, pick_device(load_settings(config_dir()).device))

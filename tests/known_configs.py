"""A configuration whose presets are known and whose model nobody tuned: what ships changes with each sweep."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from videosvc.config.settings import CHECKOUT_CONFIGS

PRESETS = {
    "draft": ("64x64", 2, "flow_map"),
    "balanced": ("64x64", 4, "flow_map"),
    "quality": ("128x128", 8, "flow_map"),
    "reference": ("128x128", 50, "euler"),
}
CAPS = {"draft": (1.0, 0.01), "balanced": (2.0, 0.05), "quality": (8.0, 0.2)}  # a second of the clip, and USD


def known_configs(folder: Path) -> Path:
    """Makes `folder` a copy of the shipped configuration with these presets, and without quality/."""
    shutil.copytree(CHECKOUT_CONFIGS, folder, ignore=shutil.ignore_patterns("quality", "presets"))
    (folder / "presets").mkdir()
    for name in PRESETS:
        (folder / "presets" / f"{name}.toml").write_text(preset_text(name))
    return folder


def preset_text(name: str) -> str:
    size, steps, sampler = PRESETS[name]
    text = f"""
        [preset]
        name = "{name}"
        description = "{steps} steps at {size}"

        [quality]
        size = "{size}"
        fps = 8
        steps = {steps}
        sampler = "{sampler}"

        [levers]
        weights = "native"
        frame_cache = "native"
        decode = "stream"

        [price]
        margin = 0.3
        """
    if name in CAPS:
        seconds, usd = CAPS[name]
        text += f"""
        [cap]
        max_compute_seconds_per_second = {seconds}
        max_cost_usd = {usd}
        trade = ["size", "steps", "fps"]
        """
    return re.sub(r"^ +", "", text, flags=re.MULTILINE)

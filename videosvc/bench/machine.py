"""What a measurement ran on. A figure without this is worth nothing."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from videosvc import __version__

LIBRARIES = ("torch", "diffusers", "transformers")
CHECKOUT = Path(__file__).resolve().parents[2]


def describe(device: str) -> dict[str, Any]:
    """`device`: cpu, cuda or cuda:N."""
    import torch  # here: what only reads reports should not wait for it

    return {
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2),  # at the start: above 1 something else was running
        "videosvc": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
        "commit": commit(),
    }


def cpu_model() -> str:
    """As the kernel names it; where it does not, the architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "") or (
        platform.processor() or platform.machine()
    )


def commit() -> str | None:
    """The checkout's commit, marked if files differ from it; None outside a checkout with a commit."""
    if not (CHECKOUT / ".git").exists():  # installed somewhere below another project's repository
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None

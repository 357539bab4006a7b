"""What only a process of its own can tell: how long it takes from its start, and the most memory it held."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

GENERATE = "import sys; from videosvc.cli.main import run; code = run(sys.argv[1:])"
# The kernel's own high-water mark. Not ru_maxrss: a child's starts at what its parent held when it forked.
PEAK = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"


def python_seconds(script: str, *arguments: str) -> float:
    """Wall seconds of a Python process, start and end included. Raises CalledProcessError if it fails."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", script, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def import_seconds(module: str) -> float:
    """What importing a module adds to a bare interpreter's start."""
    bare = python_seconds("")
    return python_seconds(f"import {module}") - bare


def cold_generate_seconds(prompt: str, output: Path, *options: str) -> float:
    """`videosvc generate` from process start to exit; the files it reads may be in the system's cache."""
    return python_seconds(f"{GENERATE}; sys.exit(code)", "generate", prompt, "-o", str(output), *options)


def generate_peak_mib(prompt: str, output: Path, *options: str) -> float:
    """The most memory that `videosvc generate` held, its ffmpeg not counted."""
    words = ("generate", prompt, "-o", str(output), *options)
    script = f"{GENERATE}; {PEAK}; sys.exit(code)"
    done = subprocess.run(
        [sys.executable, "-c", script, *words], check=True, stdout=subprocess.PIPE, text=True
    )
    return int(done.stdout.split()[-1]) / 1024

"""The console script: Ctrl-C is one line from the start, while the commands are still being imported."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs one command and exits the process."""
    try:
        from videosvc.cli.main import main as run_command

        run_command()
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        sys.exit(130)  # 128 + SIGINT, as shells have it

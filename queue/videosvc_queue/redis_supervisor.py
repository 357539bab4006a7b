"""Keeps one redis-server alive for as long as the process that started this script, and no longer.

    python -I redis_supervisor.py PARENT_PID SERVER CONFIG_FILE

Run as a script with the standard library alone, so that it is up in a few milliseconds and outlives a parent that is
SIGKILLed just long enough to clear up after it: the folder of CONFIG_FILE is removed at the end.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time

POLL_S = 0.25         # a parent that died with a forked child still holding its end of our stdin is noticed this late
RESTART_AFTER_S = 0.2  # a server that cannot start at all must not spin
PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Between fork and exec of the server: the kernel kills it when this supervisor dies, even by SIGKILL."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start(server: str, config: str) -> subprocess.Popen[bytes]:
    # preexec_fn is safe here: this process has one thread.
    return subprocess.Popen([server, config], stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)


def parent_lives(parent: int) -> bool:
    """Waits up to POLL_S. End of file on stdin means that the parent has closed it, or has died."""
    readable, _, _ = select.select([sys.stdin], [], [], POLL_S)
    return not readable and os.getppid() == parent


def main(parent: int, server: str, config: str) -> None:
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)  # a signal to the whole group is for the parent, who still drains
    process = start(server, config)
    while parent_lives(parent):
        if process.poll() is not None:
            time.sleep(RESTART_AFTER_S)
            process = start(server, config)
    process.kill()  # nothing in it must last
    process.wait()
    shutil.rmtree(os.path.dirname(config), ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])

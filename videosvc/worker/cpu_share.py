"""How a worker that computes on the CPU shares its cores."""

from __future__ import annotations

import os
import threading

PARALLEL = 2**20  # numbers that torch adds up in several threads
NICE = 5  # below the API and Redis: on the same cores they answer at once, and a clip takes no longer for it

_here = threading.local()  # `shares`, once this thread does


def share_cpu() -> None:
    """For the process that computes, before it loads torch. Variables that the user has set stay as they are."""
    os.nice(NICE)
    if {"OMP_PROC_BIND", "OMP_PLACES"} & os.environ.keys():
        return
    # Else threads meet on one core and wait for each other: a bf16 product took 12.7 ms, and 3.5 like this.
    os.environ |= {"OMP_PROC_BIND": "close", "OMP_PLACES": "cores"}
    if not hasattr(os, "sched_getaffinity"):  # macOS
        return
    cores = os.sched_getaffinity(0)
    import torch  # noqa: F401, loads OpenMP, which ties this thread to the first core

    # And with it whatever it starts: ffmpeg and the heartbeat would all be on that core.
    os.sched_setaffinity(0, cores)


def share_cpu_in_thread() -> None:
    """For each other thread that computes, before it does: it is tied and set free as the first one was, once."""
    if hasattr(_here, "shares"):
        return
    _here.shares = True
    if "OMP_PROC_BIND" not in os.environ or not hasattr(os, "sched_getaffinity"):
        return
    import torch

    torch.ones(PARALLEL).sum()
    os.sched_setaffinity(0, os.sched_getaffinity(os.getpid()))

"""A worker for tests, run as a process: its jobs last until a gate opens, and the payload says how they behave.

    python gated_worker.py DATABASE_URL REDIS_URL NAME DRAIN_S ROUTE…

With a route `company` it runs up to three jobs at once whose payloads have the same `company`; with a route `large` its
model loads without end.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from videosvc_queue.context import Cancelled, Context, GiveBack, MakeWay, Unfit
from videosvc_queue.job import Job, Status
from videosvc_queue.runner import Handler, Outcome
from videosvc_queue.worker_process import WorkerOptions, worker_main

log = logging.getLogger(__name__)


def handle(job: Job, context: Context) -> Outcome:
    """`payload`: gate (a file: run until it is there), remaining_s (told to the worker), fault (what goes wrong, in
    the first attempt only if `once`)."""
    context.beat(progress=1, detail={"pid": os.getpid(), "attempt": context.attempt})
    context.publish("plan", {"attempt": context.attempt})
    if context.attempt == 1 or not job.payload.get("once"):
        match job.payload.get("fault"):
            case "raise":
                raise RuntimeError("no such luck")
            case "unfit":
                raise Unfit("its device is broken")
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
    gate = Path(job.payload.get("gate", "/"))
    try:
        while not gate.exists():
            context.check(job.payload.get("remaining_s"))
            context.make_way(job.payload.get("remaining_s"))
            time.sleep(0.005)
    except Cancelled:
        return Outcome(Status.CANCELLED, Decimal("0.005"))
    except MakeWay:
        raise GiveBack(wasted_s=0.25) from None
    return Outcome(Status.COMPLETED, Decimal("0.01"), 1.5, {"attempt": context.attempt, "worker": os.getpid()})


class Company:
    most = 3

    def __call__(self, job: Job, context: Context) -> Outcome:
        return handle(job, context)

    def joins(self, running: Sequence[Job], job: Job) -> bool:
        return {one.payload.get("company") for one in (job, *running)} == {"friends"}


def make_handler() -> Handler:
    if "broken" in sys.argv:
        raise ValueError("this model is damaged")
    if "large" in sys.argv:
        log.info("loading")
        threading.Event().wait()
    return Company() if "company" in sys.argv else handle


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    database_url, redis_url, name, drain_s, *routes = sys.argv[1:]
    options = WorkerOptions(name, routes, "cpu", database_url, redis_url, drain_s=float(drain_s), beat_s=0.1)
    sys.exit(worker_main(options, make_handler))

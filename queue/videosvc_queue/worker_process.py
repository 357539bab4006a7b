"""A Celery worker with one process for one device."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import billiard
from celery import signals
from celery.exceptions import SecurityWarning
from celery.worker import state
from kombu.exceptions import OperationalError
from sqlalchemy.exc import SQLAlchemyError

from videosvc_queue.celery_app import RING, make_celery, queue_name, ring, silent_routes
from videosvc_queue.company import SociableHandler, Threads, run_company
from videosvc_queue.context import Context, Unfit
from videosvc_queue.drain import Drain
from videosvc_queue.events import EventBus
from videosvc_queue.job import Job
from videosvc_queue.nudges import Nudges
from videosvc_queue.runner import BEAT_S, Handler, Outcome, run_one
from videosvc_queue.store import Store
from videosvc_queue.ticker import Ticker
from videosvc_queue.wall_limit import WallLimit

log = logging.getLogger(__name__)

Figures = Callable[[], Mapping[str, float]]
Refuses = Callable[[], Mapping[str, str]]

REGISTER_S = 5.0
GRACE_S = 30.0  # over a job's wall limit before its process is killed: it may be at its landing, or writing files
DRAIN_GRACE_S = 20.0  # over the time to drain, for a checkpoint, before the process is killed


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    name: str                  # unique among all workers
    routes: Sequence[str]
    device: str                # for people
    database_url: str
    redis_url: str
    drain_s: float = 10.0      # after SIGTERM a job that ends within this time may end; another is given back
    beat_s: float = BEAT_S


def worker_main(
    options: WorkerOptions, make_handler: Callable[[], Handler], figures: Figures = dict, refuses: Refuses = dict
) -> int:
    """Works until SIGTERM or SIGINT; returns the exit code: 0 stopped, 1 `make_handler` failed.

    Two processes: this one talks to Redis, its child computes, and is born anew when it dies. `make_handler` is called
    in the child, once; nothing may have used CUDA before, here. `figures`, too: what it has counted, for metrics.
    `refuses`, once: what it cannot do, and why.
    """
    app = make_celery(options.redis_url)
    shared = Shared()
    child = Child(options, make_handler, figures, refuses, shared)
    app.task(name=RING)(child.ring)

    def drain(**_: Any) -> None:
        shared.stopping.value = 1
        if not shared.idle.value:
            _signal_children(signal.SIGTERM)
        timer = threading.Timer(options.drain_s + DRAIN_GRACE_S, _signal_children, [signal.SIGKILL])
        timer.daemon = True
        timer.start()

    signals.worker_process_init.connect(child.start, weak=False)
    signals.worker_shutting_down.connect(drain, weak=False)
    # Else one that is stopped before it listens takes the end of its child, which still loads, for a failure.
    signals.worker_ready.connect(lambda **_: state.maybe_shutdown(), weak=False)
    warnings.simplefilter("ignore", SecurityWarning)  # about root: messages are JSON here, and carry no code
    worker = app.Worker(
        hostname=options.name,
        # prefork: solo answers no ping while it computes, and threads cannot be ended when a step hangs.
        pool="prefork",
        concurrency=1,
        queues=[queue_name(route) for route in options.routes],
        without_gossip=True,   # both wait for other workers, and nobody reads what they say
        without_mingle=True,
        loglevel=logging.getLogger().getEffectiveLevel(),
        quiet=True,
    )
    worker.start()
    _forget(options)
    return 1 if shared.broken.value else int(worker.exitcode or 0)


class Shared:
    """Flags that both processes see. Each sets its own before it reads the other's."""

    def __init__(self) -> None:
        fork = multiprocessing.get_context("fork")
        self.broken: Any = fork.RawValue("b", 0)  # there is no handler to be had
        self.idle: Any = fork.RawValue("b", 0)  # the child waits for a bell: no model loads, no job runs
        self.stopping: Any = fork.RawValue("b", 0)


class Child:
    """The process that computes."""

    def __init__(
        self,
        options: WorkerOptions,
        make_handler: Callable[[], Handler],
        figures: Figures,
        refuses: Refuses,
        shared: Shared,
    ) -> None:
        self._options = options
        self._make_handler = make_handler
        self._figures = figures
        self._refuses = refuses
        self._shared = shared
        self._unfit = False

    def start(self, **_: Any) -> None:
        """Loads the model, then says that a worker is there. SIGTERM ends the process meanwhile."""
        self._shared.idle.value = 0
        if self._shared.stopping.value:
            return  # in place of a process that was ended while it loaded
        try:
            self._handler = self._make_handler()
            self._refused = self._refuses()
        except Exception:
            log.exception("the worker cannot start")
            self._shared.broken.value = 1
            os.kill(os.getppid(), signal.SIGTERM)
            raise
        options = self._options
        self._limit = WallLimit()
        self._store = Store(options.database_url)
        self._bus = EventBus(options.redis_url)
        self._threads = Threads()
        self._celery = make_celery(options.redis_url)
        self._nudges = Nudges(options.redis_url)
        self._nudges.start()  # until the process ends, as the ticker
        Ticker("register", self._register, REGISTER_S).start()
        self._shared.idle.value = 1

    def ring(self, job_id: str) -> None:
        """The task: runs the fairest job, which need not be `job_id`, and others beside it if they join."""
        drain = Drain(self._options.drain_s)
        # From the parent, or from whoever stops a whole group of processes. Without a job SIGTERM ends the process.
        before = signal.signal(signal.SIGTERM, lambda *_: drain.request())
        self._shared.idle.value = 0
        try:
            # Else a bell that was on its way would start a job which hears of no end but its worker's.
            if not self._shared.stopping.value and self._run(drain) and not drain.requested:
                self._ring_on()
        finally:
            if self._unfit:
                os._exit(1)  # at once, as tidying up would use what is broken; the parent makes another process
            self._shared.idle.value = 1
            signal.signal(signal.SIGTERM, before)

    def _run(self, drain: Drain) -> bool:
        """Whether there was a job."""
        options, handler = self._options, self._handler
        where = self._store, self._bus, partial(self._within_limit, drain)
        who = options.routes, options.name
        how: Any = {"drain": drain, "beat_s": options.beat_s, "nudges": self._nudges}
        if isinstance(handler, SociableHandler) and handler.most > 1:
            return run_company(*where, handler, *who, threads=self._threads, **how) > 0
        return run_one(*where, *who, **how) is not None

    def _within_limit(self, drain: Drain, job: Job, context: Context) -> Outcome:
        with self._limit.within(job.id, job.max_run_s + GRACE_S):
            try:
                return self._handler(job, context)
            except Unfit:
                self._unfit = True
                drain.request()  # no other job is taken, and those beside it stop too
                raise

    def _ring_on(self) -> None:
        """For jobs that wait with no bell left: one was lost, or heard while their tenant had enough in progress."""
        try:
            backlogs = self._store.rings_needed(self._options.routes)
            if backlogs and set(silent_routes(self._celery, self._options.routes)) == set(self._options.routes):
                ring(self._celery, backlogs[0].job_id, backlogs[0].route, backlogs[0].tier)
        except (OperationalError, SQLAlchemyError) as error:
            log.warning("no bell for the next job, the reconciler will ring: %s", error)

    def _register(self) -> None:
        options = self._options
        self._store.register_worker(options.name, options.routes, options.device, self._figures(), self._refused)


def _signal_children(number: signal.Signals) -> None:
    for process in billiard.active_children():
        os.kill(process.pid, number)


def _forget(options: WorkerOptions) -> None:
    try:
        with Store(options.database_url) as store:
            store.forget_worker(options.name)
    except SQLAlchemyError as error:
        log.warning("the worker stays in the list for a while: %s", error)

"""The workers that `videosvc serve` starts: kept alive while it runs, and gone when it is."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from videosvc_queue.background import Background

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
RESTART_AFTER_S = (1.0, 30.0)  # at first, and at most: a worker that cannot start must not spin
HEALTHY_AFTER_S = 60.0  # one that lived so long did start
KILL_AFTER_S = 25.0  # beyond the time that a worker may take to drain: a little after it would do so itself

# The kernel ends the worker when the thread that started it dies, even if all of serve is SIGKILLed. A step of its own
# before the worker, since between fork and exec of a process with threads no Python may run.
LEASH = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1: PR_SET_PDEATHSIG
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def visible_gpus() -> int:
    """Asked of torch in a process of its own: here it would cost seconds and memory for good."""
    if shutil.which("nvidia-smi") is None:
        return 0
    program = "import torch; print(torch.cuda.device_count())"
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True)
    return int(done.stdout) if done.returncode == 0 else 0


def worker_devices(device: str, workers: int | None) -> list[str]:
    """One a GPU, or one on the CPU; `workers` of them if given; all on `device` unless that is "auto"."""
    gpus = visible_gpus() if device == "auto" and workers != 0 else 0
    places = [f"cuda:{index}" for index in range(gpus)] or ["cpu" if device == "auto" else device]
    return [places[index % len(places)] for index in range(len(places) if workers is None else workers)]


def worker_variables(devices: Sequence[str], settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of workers on these devices: this process's, with `settings` above it."""
    variables = {**os.environ, **settings}
    if (workers := devices.count("cpu")) > 1:
        variables.setdefault("OMP_PROC_BIND", "false")  # else each would tie its threads to the same cores
        # More threads than cores wait for each other: two workers of two threads on two cores made 0.6 clips a second
        # together, with a thread each 5.5; one alone makes 3.3.
        variables.setdefault("OMP_NUM_THREADS", str(max(1, _cores() // workers)))
    return variables


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # macOS


class LocalWorkers(Background):
    """Their end: SIGTERM, time to drain, SIGKILL."""

    def __init__(self, devices: Sequence[str], settings: Mapping[str, str], drain_s: float) -> None:
        """`settings`: VIDEOSVC_… variables for them, above those of this process."""
        super().__init__("workers")
        self._devices = devices
        self._environment = worker_variables(devices, settings)
        self._drain_s = drain_s

    def _run(self) -> None:
        """All of it in one thread: when the thread that started a process ends, its leash is pulled."""
        running = [_Worker(device, self._environment) for device in self._devices]
        while not self.stopping:
            for worker in running:
                worker.look()
            self._stopping.wait(LOOK_EVERY_S)
        for worker in running:
            worker.terminate()
        deadline = time.monotonic() + self._drain_s + KILL_AFTER_S
        for worker in running:
            worker.wait_until(deadline)


class _Worker:
    """A device's process, and its successors."""

    def __init__(self, device: str, environment: Mapping[str, str]) -> None:
        self._device = device
        self._environment = environment
        self._pause_s = RESTART_AFTER_S[0]
        self._start_at = time.monotonic()
        self._process: subprocess.Popen[bytes] | None = None

    def look(self) -> None:
        """Starts it, and again a while after it has died or could not be started."""
        now = time.monotonic()
        if self._process is not None and self._process.poll() is not None:
            self._later(f"ended with {self._process.returncode}", now - self._start_at > HEALTHY_AFTER_S)
            self._process = None
        if self._process is None and now >= self._start_at:
            try:
                self._process = self._start()
            except OSError as error:  # no memory, no process number left: both come back
                self._later(f"cannot be started: {error}")

    def terminate(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def wait_until(self, deadline: float) -> None:
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.warning("the worker on %s did not stop in time", self._device)
            self._process.kill()
            self._process.wait()

    def _later(self, why: str, healthy: bool = False) -> None:
        first, longest = RESTART_AFTER_S
        self._pause_s = first if healthy else min(2 * self._pause_s, longest)
        self._start_at = time.monotonic() + self._pause_s
        log.warning("the worker on %s %s; the next in %g s", self._device, why, self._pause_s)

    def _start(self) -> subprocess.Popen[bytes]:
        worker = [sys.executable, "-P", "-c", "from videosvc.cli.main import main; main()", "worker"]
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", LEASH, str(os.getpid()), *worker, "--device", self._device],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            start_new_session=True,  # Ctrl-C is for serve, which tells the workers once
        )

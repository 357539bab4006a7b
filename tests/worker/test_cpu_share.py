from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json, os
from videosvc.worker.cpu_share import share_cpu
share_cpu()
import torch
torch.ones(300, 300) @ torch.ones(300, 300)
threads = [sorted(os.sched_getaffinity(int(task))) for task in os.listdir("/proc/self/task")]
variables = {name: os.environ.get(name) for name in ("OMP_PROC_BIND", "OMP_PLACES")}
print(json.dumps({"nice": os.nice(0), "mine": sorted(os.sched_getaffinity(0)), "threads": threads, **variables}))
"""


def shared(**variables: str) -> dict[str, object]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")} | variables
    command = [sys.executable, "-P", "-c", SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells of each thread")
def test_its_threads_have_a_core_each_and_what_it_starts_has_them_all() -> None:
    found = shared(OMP_NUM_THREADS="2")
    assert (found["OMP_PROC_BIND"], found["OMP_PLACES"]) == ("close", "cores")
    assert found["nice"] == min(19, os.nice(0) + 5)
    cores = sorted(os.sched_getaffinity(0))
    assert found["mine"] == cores
    if len(cores) > 1:
        assert any(len(threads) < len(cores) for threads in found["threads"])  # type: ignore[attr-defined]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells of each thread")
def test_what_a_user_has_set_stays() -> None:
    found = shared(OMP_PROC_BIND="false")
    assert (found["OMP_PROC_BIND"], found["OMP_PLACES"]) == ("false", None)
    assert all(threads == found["mine"] for threads in found["threads"])  # type: ignore[attr-defined]

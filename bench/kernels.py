"""The GPU's kernels against the same in torch, eager and compiled, at Wan2.1-1.3B's shapes: `python -m bench.kernels`.

A round runs every way of everything once, so that a clock that changes falls on all alike, and ratios are taken within
it. Needs a CUDA device and Triton; where one is missing it says so and exits with 2.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.utils._triton import has_triton

from bench.report import print_table, write_json
from videosvc.bench.machine import describe
from videosvc.bench.measure import Measure, Samples

if TYPE_CHECKING:
    from bench.kernel_ways import Way

WARM_UP = 3  # rounds; the first compiles
# The device waits for about a millisecond while the host queues what is timed: launching may take longer than running.
HEAD_START_CYCLES = 2_000_000


def milliseconds(way: Way) -> float:
    """What the device takes for it, the host's part left out."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(HEAD_START_CYCLES)
    start.record()
    way()
    end.record()
    end.synchronize()
    taken: float = start.elapsed_time(end)
    return taken


@torch.inference_mode()
def measure(ways: Mapping[str, Mapping[str, Way]], rounds: int) -> list[Measure]:
    every = {name: {**each, "compiled": torch.compile(each["torch"], dynamic=False)} for name, each in ways.items()}
    samples: Samples = defaultdict(list)
    for turn in range(-WARM_UP, rounds):
        for name, each in every.items():
            taken = {way: milliseconds(run) for way, run in each.items()}
            if turn < 0:
                continue
            for way, ms in taken.items():
                samples[f"{name}: {way}", "ms"].append(ms)
                if way != "kernel":
                    samples[f"{name}: kernel / {way}", "x"].append(taken["kernel"] / ms)
    return [Measure(name, unit, tuple(taken)) for (name, unit), taken in samples.items()]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.kernels", description="The bench of the GPU's kernels.")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--output", type=Path, default=Path("bench/results/kernels-cuda.json"))
    arguments = parser.parse_args(words)
    if not torch.cuda.is_available():
        parser.exit(2, "bench.kernels needs a CUDA device, and there is none here\n")
    if not has_triton():
        parser.exit(2, "bench.kernels needs Triton and a GPU that it knows, which are not here\n")
    from bench.kernel_ways import WAN_1_3B, ways

    machine = describe("cuda")
    measures = measure(ways(WAN_1_3B, torch.device("cuda"), torch.bfloat16), arguments.rounds)
    print_table(f"kernels on {machine['device']}", measures)
    about = {"bench": "kernels", "machine": machine, "shapes": asdict(WAN_1_3B), "rounds": arguments.rounds}
    write_json(arguments.output, about, measures)


if __name__ == "__main__":
    main()

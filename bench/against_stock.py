"""The same weights, noise and steps through diffusers' pipeline and through ours, from prompt to frames."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.stock_pipeline import Job, Made, ours, stock
from videosvc.bench.measure import Samples
from videosvc.families.anyflow_far import AnyFlowFAR

if TYPE_CHECKING:
    from diffusers import AnyFlowFARPipeline

# 128x128: a chunk has 128 tokens there, and the stock step pads none (tests/families/test_against_stock.py).
JOB = Job("a red balloon floats up over green hills", seed=7)
MANY_STEPS = replace(JOB, steps=50, guidance_scale=3.0)


def against_stock(family: AnyFlowFAR, pipeline: AnyFlowFARPipeline, turn: int, samples: Samples) -> None:
    """Once through each, no file written; odd turns begin with ours."""
    runs: dict[str, Callable[[], Made]] = {
        "stock": lambda: stock(pipeline, JOB),
        "ours": lambda: ours(family, JOB),
    }
    made, seconds = {}, {}
    for name in sorted(runs, reverse=turn % 2 == 0):
        start = time.perf_counter()
        made[name] = runs[name]()
        seconds[name] = time.perf_counter() - start
        samples[f"2 s at {JOB.width}x{JOB.height}, {JOB.steps} steps: {name}", "s"].append(seconds[name])
    samples["stock / ours", "x"].append(seconds["stock"] / seconds["ours"])
    difference = (made["ours"].latents - made["stock"].latents).abs().max().item()
    samples["ours - stock: latents, largest", ""].append(difference)
    levels = (made["ours"].frames.int() - made["stock"].frames.int()).abs().max().item()
    samples["ours - stock: frames, largest", "of 255"].append(levels)


def many_steps_for_scale(pipeline: AnyFlowFARPipeline, job: Job, samples: Samples) -> None:
    """What a clip costs without distillation: many steps, two forwards each."""
    start = time.perf_counter()
    stock(pipeline, job)
    name = f"2 s at {job.width}x{job.height}, {job.steps} steps with guidance: stock"
    samples[name, "s"].append(time.perf_counter() - start)

"""A number that is none fails the job in the step that it comes up in, whatever levers are pulled: none hides it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny_model import add_tiny_decoder, make_tiny_checkpoint
from tiny_wan import make_tiny_wan
from videosvc.engine.events import StepDone
from videosvc.engine.generate import Engine
from videosvc.engine.plan import Plan
from videosvc.errors import GenerationError
from videosvc.families.anyflow_far import AnyFlowFAR
from videosvc.families.load_levers import LoadLevers
from videosvc.families.wan import Wan

CPU = torch.device("cpu")
STEPS = 8
RATIOS = (1.0, 1.01, 0.99, 1.0)
FAR_LEVERS = (
    {},
    {"weights": "int8"},
    {"weights": "fp8"},
    {"frame_cache": "int8"},
    {"frame_cache": "int4"},
    {"weights": "int8", "frame_cache": "int4", "decode": "tiny"},
)
WAN_LEVERS = (
    {},
    {"weights": "int8"},
    {"weights": "fp8"},
    {"decode": "tiled"},
    *({"step_cache": name} for name in ("first_block", "mag", "sea", "taylor_seer")),
    {"weights": "fp8", "step_cache": "first_block"},
)


@pytest.fixture(scope="module")
def far_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add_tiny_decoder(make_tiny_checkpoint(tmp_path_factory.mktemp("far")))


@pytest.fixture(scope="module")
def wan_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_wan(tmp_path_factory.mktemp("wan"))


def plan_of(levers: dict[str, str], sampler: str) -> Plan:
    plan = Plan(
        model="tiny", prompt="a red circle", negative_prompt="the sea", seed=5, width=32, height=32, fps=8, seconds=1.5,
        steps=STEPS, sampler=sampler, guidance_scale=2.0, weights="native", frame_cache="native", decode="stream",
    )  # fmt: skip
    return replace(plan, **levers)  # type: ignore[arg-type]


@contextmanager
def poisoned(block: torch.nn.Module, value: float, after: int) -> Iterator[list[int]]:
    """The block's output has `value` in it from so many calls on; yields how many it was asked for."""
    calls = [0]

    def hook(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        if calls[0] > after:
            output = output.clone()
            output[..., 0, 0] = value
        return output

    handle = block.register_forward_hook(hook)
    try:
        yield calls
    finally:
        handle.remove()


def fails_in_the_step_it_comes_up_in(
    family: Any, block: torch.nn.Module, plan: Plan, folder: Path, value: float, after: int
) -> str:
    """Returns what the job says."""
    before, chunk, step = 0, 1, 1  # calls, and what is to come
    with poisoned(block, value, after) as calls, pytest.raises(GenerationError) as failed:
        for event in Engine(family).run(plan, folder / "clip.mp4"):
            assert calls[0] <= after, "a step with it in was taken for a good one"
            if isinstance(event, StepDone):
                chunk, step = (event.chunk + 1, event.step + 1) if event.step < STEPS else (event.chunk + 2, 1)
            before = calls[0]
    assert before <= after < calls[0]
    assert str(failed.value) == f"step {step} of chunk {chunk}: latents are not finite"
    assert list(folder.iterdir()) == []
    return str(failed.value)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("levers", FAR_LEVERS, ids=str)
def test_the_causal_family(far_folder: Path, tmp_path: Path, levers: dict[str, str], value: float) -> None:
    family = AnyFlowFAR("tiny", far_folder, 1, CPU, torch.float32, LoadLevers(levers.get("weights", "native")))
    block = family._forward.model.blocks[0]
    plan = plan_of(levers, "flow_map")
    # A call a step, and one for a finished chunk: in the first chunk, and in the second.
    assert "step 4 of chunk 1" in fails_in_the_step_it_comes_up_in(family, block, plan, tmp_path, value, 3)
    assert "step 2 of chunk 2" in fails_in_the_step_it_comes_up_in(family, block, plan, tmp_path, value, STEPS + 2)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("levers", WAN_LEVERS, ids=str)
def test_the_bidirectional_family(wan_folder: Path, tmp_path: Path, levers: dict[str, str], value: float) -> None:
    loading = LoadLevers(levers.get("weights", "native"))
    family = Wan("tiny", wan_folder, CPU, torch.float32, loading, mag_ratios=RATIOS)
    block = family.transformer.blocks[0]
    plan = plan_of(levers, "euler")
    assert "step 1 " in fails_in_the_step_it_comes_up_in(family, block, plan, tmp_path, value, 0)
    fails_in_the_step_it_comes_up_in(family, block, plan, tmp_path, value, 5)

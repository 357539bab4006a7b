"""Step caches: they spare blocks, change little, and leave nothing to the next job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
import torch
from torch import Tensor, nn

from tiny_model import make_tiny_checkpoint
from tiny_wan import SHIFT, latents_of, make_tiny_wan, stock_pipeline
from videosvc.engine.events import StepDone
from videosvc.engine.generate import Engine, chunk_noise
from videosvc.engine.plan import Plan
from videosvc.errors import GenerationError, ModelError
from videosvc.families import step_cache
from videosvc.families.anyflow_far import AnyFlowFAR
from videosvc.families.step_cache import StepCache
from videosvc.families.wan import Wan
from videosvc_samplers import flow_sigmas

CPU = torch.device("cpu")
CACHES = ("first_block", "mag", "sea", "taylor_seer")
STEPS = 12
RATIOS = (1.0, 1.01, 0.99, 1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_wan(tmp_path_factory.mktemp("wan"))


@pytest.fixture(scope="module")
def family(folder: Path) -> Wan:
    return Wan("tiny", folder, CPU, torch.float32, mag_ratios=RATIOS)


@pytest.fixture(autouse=True)
def generous_first_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights change faster from step to step than trained ones do."""
    monkeypatch.setattr(step_cache, "FIRST_BLOCK_THRESHOLD", 0.3)


@pytest.fixture
def plan() -> Plan:
    return Plan(
        model="tiny",
        prompt="a red circle moves left",
        negative_prompt="the sea",
        seed=5,
        width=32,
        height=32,
        fps=8,
        seconds=0.6,
        steps=STEPS,
        sampler="euler",
        guidance_scale=3.0,
        weights="native",
        frame_cache="native",
        decode="stream",
    )


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """One for each time that a block's self-attention is computed."""
    from diffusers.models.transformers.transformer_wan import WanAttention

    made: list[str] = []
    forward = WanAttention.forward

    def counted(self: nn.Module, hidden: Tensor, text: Tensor | None = None, *rest: object) -> Tensor:
        if text is None:
            made.append("self")
        result: Tensor = forward(self, hidden, text, *rest)
        return result

    monkeypatch.setattr(WanAttention, "forward", counted)
    yield made


def made(family: Wan, plan: Plan, folder: Path) -> Tensor:
    return latents_of(list(Engine(family).run(plan, folder / "clip.mp4")))


@pytest.mark.parametrize("cache", CACHES)
def test_it_spares_blocks_and_changes_little(
    family: Wan, plan: Plan, tmp_path: Path, calls: list[str], cache: str
) -> None:
    plain = made(family, plan, tmp_path)
    all_calls = len(calls)
    assert all_calls == 2 * 3 * STEPS  # prompts, layers, steps
    calls.clear()
    cached = made(family, replace(plan, step_cache=cache), tmp_path)
    assert len(calls) < 0.9 * all_calls
    assert cached.isfinite().all()
    assert 0 < (cached - plain).norm() / plain.norm() < 0.25


@pytest.mark.parametrize("cache", CACHES)
def test_the_stock_pipeline_under_the_same_cache_makes_the_same_clip(
    folder: Path, family: Wan, plan: Plan, tmp_path: Path, cache: str
) -> None:
    """Which has a cache for each of the two prompts: mixed up, they would make another one."""
    here = made(family, replace(plan, step_cache=cache), tmp_path)
    stock = stock_pipeline(folder, "euler", flow_sigmas(STEPS, SHIFT))
    stock.transformer.enable_cache(step_cache._CONFIGS[cache](STEPS, 0, RATIOS))
    there = stock(
        prompt=plan.prompt,
        negative_prompt=plan.negative_prompt,
        width=plan.width,
        height=plan.height,
        num_frames=5,
        num_inference_steps=STEPS,
        guidance_scale=plan.guidance_scale,
        latents=chunk_noise(plan, family.spec, 0, 2),
        max_sequence_length=stock.tokenizer.model_max_length,
        output_type="latent",
    ).frames
    assert (here - there).abs().max() < 1e-4


@pytest.mark.parametrize("cache", CACHES)
def test_a_job_after_one_that_broke_off_is_as_fresh(
    family: Wan, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: str
) -> None:
    plain, plan = made(family, plan, tmp_path), replace(plan, step_cache=cache)
    fresh = made(family, plan, tmp_path)
    other = replace(plan, prompt="a blue square", seed=6)
    with closing(Engine(family).run(other, tmp_path / "gone.mp4")) as events:  # cancelled in the middle
        steps = (event for event in events if isinstance(event, StepDone))
        assert next(event for event in steps if event.step == STEPS // 2)
    assert torch.equal(made(family, plan, tmp_path), fresh)
    with monkeypatch.context() as broken:  # and failed there
        bias = family.transformer.proj_out.bias
        broken.setattr(bias, "data", torch.full_like(bias, torch.nan))
        with pytest.raises(GenerationError, match="latents are not finite"):
            made(family, other, tmp_path)
    assert torch.equal(made(family, plan, tmp_path), fresh)
    assert torch.equal(made(family, replace(plan, step_cache="none"), tmp_path), plain)


def test_clips_at_the_same_time_do_not_see_each_others_caches(family: Wan, plan: Plan, tmp_path: Path) -> None:
    plans = [replace(plan, step_cache=cache, seed=seed) for seed, cache in enumerate(("none", *CACHES))]
    alone = [made(family, each, tmp_path) for each in plans]
    engine, together = Engine(family), dict[int, Tensor]()

    def run(number: int) -> None:
        together[number] = latents_of(list(engine.run(plans[number], tmp_path / f"{number}.mp4")))

    threads = [Thread(target=run, args=(number,)) for number in range(len(plans))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(together[number], latents) for number, latents in enumerate(alone))


@pytest.mark.parametrize("cache", CACHES)
def test_resumed_it_begins_empty_and_ends_well(family: Wan, plan: Plan, tmp_path: Path, cache: str) -> None:
    plan = replace(plan, step_cache=cache)
    events = list(Engine(family).run(plan, tmp_path / "clip.mp4"))
    whole = latents_of(events)
    half = [event for event in events if isinstance(event, StepDone)][STEPS // 2].checkpoint
    resumed = latents_of(list(Engine(family).run(plan, tmp_path / "clip.mp4", half)))
    assert (resumed - whole).norm() / whole.norm() < 0.25


def test_steps_are_told_by_their_noise_levels() -> None:
    cache = StepCache("sea", flow_sigmas(STEPS, 3.0))
    assert [cache.step_at(sigma) for sigma in cache.sigmas[:-1]] == list(range(STEPS))


def test_where_it_cannot_be_the_reason_is_told(folder: Path, family: Wan, tmp_path: Path) -> None:
    cache = StepCache("mag", flow_sigmas(4))
    text = family.encode_text("a red circle", None)
    bare = Wan("bare", folder, CPU, torch.float32)
    with pytest.raises(ModelError, match="lever step_cache='mag' cannot be: its ratios belong to a checkpoint"):
        bare.open_clip(32, 32, text, 1.0, step_cache=cache)
    causal = AnyFlowFAR("tiny", make_tiny_checkpoint(tmp_path / "far"), 1, CPU, torch.float32)
    with pytest.raises(ModelError, match=r"lever step_cache='mag' makes no sense .* allowed none"):
        causal.open_clip(64, 48, causal.encode_text("a red circle", None), 1.0, step_cache=cache)

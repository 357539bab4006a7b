"""The bidirectional family against diffusers' own pipeline on the same folder, and through the whole engine."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from tiny_wan import SHIFT, latents_of, make_tiny_wan, stock_pipeline
from videosvc.engine.checkpoint import Checkpoint
from videosvc.engine.costs import ChunkCosts, ComputeCap, RunCosts
from videosvc.engine.events import ChunkDone, Done, Event, StepDone, Traded
from videosvc.engine.generate import Engine, chunk_noise
from videosvc.engine.plan import Plan
from videosvc.errors import ModelError
from videosvc.families.base import Jump
from videosvc.families.compiled_blocks import compile_refusal
from videosvc.families.decoder import to_frames
from videosvc.families.load_levers import LoadLevers
from videosvc.families.wan import Wan
from videosvc_samplers import flow_sigmas

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_wan(tmp_path_factory.mktemp("wan"))


@pytest.fixture(scope="module")
def family(folder: Path) -> Wan:
    return Wan("tiny", folder, CPU, torch.float32, mag_ratios=(1.0, 1.01, 0.99))


@pytest.fixture
def plan() -> Plan:
    return Plan(
        model="tiny",
        prompt="a red circle moves left",
        negative_prompt="the sea",
        seed=5,
        width=48,
        height=32,
        fps=8,
        seconds=1.0,  # 8 frames: three latents, of whose nine frames the last is not shown
        steps=4,
        sampler="euler",
        guidance_scale=5.0,
        weights="native",
        frame_cache="native",
        decode="stream",
    )


def run(family: Wan, plan: Plan, output: Path, **more: Any) -> list[Event]:
    return list(Engine(family).run(plan, output, **more))


@pytest.mark.parametrize(("sampler", "guidance_scale"), [("euler", 5.0), ("unipc", 5.0), ("euler", 1.0)])
def test_the_stock_pipeline_makes_the_same_clip(
    folder: Path, family: Wan, plan: Plan, tmp_path: Path, sampler: str, guidance_scale: float
) -> None:
    plan = replace(plan, sampler=sampler, guidance_scale=guidance_scale)
    here = latents_of(run(family, plan, tmp_path / "clip.mp4"))
    stock = stock_pipeline(folder, sampler, flow_sigmas(plan.steps, SHIFT))
    asked = {
        "prompt": plan.prompt,
        "negative_prompt": plan.negative_prompt,
        "width": plan.width,
        "height": plan.height,
        "num_frames": 9,
        "num_inference_steps": plan.steps,
        "guidance_scale": guidance_scale,
        "latents": chunk_noise(plan, family.spec, 0, 3),
        "max_sequence_length": stock.tokenizer.model_max_length,
    }
    there = stock(**asked, output_type="latent").frames
    assert (here - there).abs().max() < 1e-4  # measured: 3e-6
    text = family.encode_text(plan.prompt, plan.negative_prompt)
    with torch.inference_mode():
        frames = family.open_clip(plan.width, plan.height, text, guidance_scale).decode(here)
    video = stock(**asked, output_type="pt").frames[0] * 2 - 1  # (T, 3, H, W)
    assert frames.shape == (9, plan.height, plan.width, 3)
    assert (frames.int() - to_frames(video.transpose(0, 1)[None]).int()).abs().max() <= 1


def test_a_clip_is_one_chunk_of_any_length_and_a_whole_file(family: Wan, plan: Plan, tmp_path: Path) -> None:
    events = run(family, plan, tmp_path / "clip.mp4")
    steps = [event for event in events if isinstance(event, StepDone)]
    assert [(event.chunk, event.chunks, event.step) for event in steps] == [(0, 1, step) for step in (1, 2, 3, 4)]
    done = events[-1]
    assert isinstance(done, Done) and done.receipt.steps == (4,)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(done.output), "-f", "rawvideo"]
    raw = subprocess.run([*command, "-pix_fmt", "rgb24", "-"], capture_output=True, check=True).stdout
    assert len(raw) == plan.frames * plan.height * plan.width * 3
    assert steps[0].preview().shape == (plan.height, plan.width, 3)
    assert [family.spec.chunks(frames) for frames in (1, 2, 5, 6, 81)] == [(1,), (2,), (2,), (3,), (21,)]
    assert not family.spec.takes_picture


def test_decoded_latent_by_latent_it_is_what_it_is_at_once(family: Wan, plan: Plan) -> None:
    latents = chunk_noise(plan, family.spec, 0, 3)
    text = family.encode_text(plan.prompt, None)
    with torch.inference_mode():
        stream, full = (
            family.open_clip(plan.width, plan.height, text, 1.0, decode=decode).decode(latents)
            for decode in ("stream", "full")
        )
    assert torch.equal(stream, full)


@pytest.mark.parametrize("sampler", ["euler", "unipc", "consistency"])
def test_resumes_bit_for_bit_from_every_step(family: Wan, plan: Plan, tmp_path: Path, sampler: str) -> None:
    plan = replace(plan, sampler=sampler)
    events = run(family, plan, tmp_path / "whole.mp4")
    whole = (tmp_path / "whole.mp4").read_bytes()
    for event in events:
        if isinstance(event, StepDone | ChunkDone):
            event.checkpoint.save(tmp_path / "job.safetensors")
            run(family, plan, tmp_path / "resumed.mp4", resume_from=Checkpoint.load(tmp_path / "job.safetensors"))
            assert (tmp_path / "resumed.mp4").read_bytes() == whole


def test_cancelled_between_steps_nothing_is_left(family: Wan, plan: Plan, tmp_path: Path) -> None:
    with closing(Engine(family).run(plan, tmp_path / "clip.mp4")) as events:
        assert isinstance(next(event for event in events if isinstance(event, StepDone)), StepDone)
    assert list(tmp_path.iterdir()) == []


class StepsTakeTime:
    """A clock on which each forward takes a second, or three from forward number `slow_from` on, and nothing else."""

    def __init__(self, family: Wan, monkeypatch: pytest.MonkeyPatch, slow_from: float = math.inf) -> None:
        self.now, self.steps = 0.0, 0
        denoise = family.denoise_together

        def timed(jumps: Sequence[Jump]) -> list[Tensor]:
            self.now += 1.0 if self.steps < slow_from else 3.0
            self.steps += 1
            return denoise(jumps)

        monkeypatch.setattr(family, "denoise_together", timed)

    def __call__(self) -> float:
        return self.now


COSTS = RunCosts(0.0, (ChunkCosts(1.0, 0.0, 0.0, 0.0),), 0.0, spread=1.0)


@pytest.mark.parametrize("sampler", ["euler", "unipc"])
def test_a_cap_that_is_short_from_the_start_means_fewer_steps(
    family: Wan, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    plan = replace(plan, sampler=sampler)
    shorter = latents_of(run(family, plan, tmp_path / "clip.mp4"))
    clock = StepsTakeTime(family, monkeypatch)
    cap = ComputeCap(COSTS.needed_s(plan.steps), COSTS)
    events = list(Engine(family, clock).run(replace(plan, steps=12), tmp_path / "clip.mp4", cap=cap))
    assert clock.steps == plan.steps
    assert torch.equal(latents_of(events), shorter)


@pytest.mark.parametrize("sampler", ["euler", "unipc"])
def test_cut_short_on_the_way_it_lands_by_an_euler_step(
    family: Wan, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    plan = replace(plan, sampler=sampler, steps=12)
    clock = StepsTakeTime(family, monkeypatch, slow_from=3)
    cap = ComputeCap(COSTS.needed_s(plan.steps), COSTS)
    events = list(Engine(family, clock).run(plan, tmp_path / "clip.mp4", cap=cap))
    assert any(isinstance(event, Traded) for event in events)
    done = events[-1]
    assert isinstance(done, Done) and done.receipt.steps == (clock.steps,) and 3 < clock.steps < plan.steps
    assert clock.now <= cap.max_compute_s
    before, last = [event.checkpoint.sampler for event in events if isinstance(event, StepDone)][-2:]
    assert before is not None and last is not None
    sigma = flow_sigmas(plan.steps, SHIFT)[before.step]
    text = family.encode_text(plan.prompt, plan.negative_prompt)
    with torch.inference_mode():
        clip = family.open_clip(plan.width, plan.height, text, plan.guidance_scale)
        landed = before.latents - sigma * clip.denoise(before.latents, sigma, sigma)
    assert torch.equal(last.latents, landed)


@pytest.mark.parametrize(("weights", "bound"), [("int8", 0.01), ("fp8", 0.02)])  # measured: 0.0016 and 0.006
def test_low_bit_weights_change_little(folder: Path, family: Wan, tmp_path: Path, weights: str, bound: float) -> None:
    plain = family._trial()
    low, again = (
        Wan("tiny", folder, CPU, torch.float32, LoadLevers(weights), kept=tmp_path)._trial() for _ in range(2)
    )
    assert 0 < (low - plain).norm() / plain.norm() < bound
    assert torch.equal(again, low) and len(list(tmp_path.iterdir())) == 1


def test_levers_that_it_cannot_take_are_refused_with_the_reason(family: Wan, folder: Path) -> None:
    text = family.encode_text("a red circle", None)
    with pytest.raises(ModelError, match=r"lever frame_cache='int8' makes no sense .* denoised at once"):
        family.open_clip(32, 32, text, 1.0, frame_cache="int8")
    with pytest.raises(ModelError, match="attention = 'flash' needs a GPU"):
        Wan("tiny", folder, CPU, torch.float32, attention="flash")


@pytest.mark.parametrize(
    ("file", "changed", "says"),
    [
        ("model_index.json", {"transformer_2": ["diffusers", "WanTransformer3DModel"]}, "two transformers"),
        ("transformer/config.json", {"image_dim": 1280}, "starts from a picture"),
        ("vae/config.json", {"_class_name": "AutoencoderKL"}, "'AutoencoderKL' is not AutoencoderKLWan"),
    ],
)
def test_a_wan_of_another_kind_is_one_line(
    folder: Path, tmp_path: Path, file: str, changed: dict[str, Any], says: str
) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    config = copy / file
    config.write_text(json.dumps(json.loads(config.read_text()) | changed))
    with pytest.raises(ModelError, match=says) as caught:
        Wan("tiny", copy, CPU, torch.float32)
    assert "\n" not in caught.value.message


@pytest.fixture
def sharded(folder: Path, tmp_path: Path) -> Iterator[Path]:
    """The same weights, in files of at most 40 kB."""
    from diffusers import WanTransformer3DModel

    copy = shutil.copytree(folder, tmp_path / "sharded")
    transformer = WanTransformer3DModel.from_pretrained(folder / "transformer")
    shutil.rmtree(copy / "transformer")
    transformer.save_pretrained(copy / "transformer", max_shard_size="40kB")
    yield copy


def test_a_sharded_folder_is_the_same_model(sharded: Path, family: Wan) -> None:
    assert len(list((sharded / "transformer").glob("*.safetensors"))) > 2
    assert torch.equal(Wan("tiny", sharded, CPU, torch.float32)._trial(), family._trial())


def test_attention_of_one_model_is_not_that_of_another(folder: Path, family: Wan) -> None:
    from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry

    def backends(model: Wan) -> set[AttentionBackendName]:
        return {block.attn1.processor._attention_backend for block in model.transformer.blocks}

    before = _AttentionBackendRegistry.get_active_backend()
    other = Wan("other", folder, CPU, torch.float32, attention="math")
    assert backends(other) == {AttentionBackendName._NATIVE_MATH}
    assert backends(family) == {AttentionBackendName.NATIVE}
    assert _AttentionBackendRegistry.get_active_backend() == before
    assert torch.allclose(other._trial(), family._trial(), atol=1e-5)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, while it compiles
@torch.inference_mode()
def test_compiled_it_is_the_same_model_at_sizes_that_wait_for_no_code_of_their_own(folder: Path, family: Wan) -> None:
    if reason := compile_refusal(CPU):
        pytest.skip(reason)
    before = counters["stats"]["unique_graphs"]
    compiled = Wan("tiny", folder, CPU, torch.float32, LoadLevers(compile=True))
    graphs = counters["stats"]["unique_graphs"]
    assert graphs > before
    generator = torch.Generator().manual_seed(4)
    for width, height, count, guidance_scale in ((48, 32, 3, 5.0), (32, 80, 1, 1.0), (96, 96, 6, 5.0)):
        noise = torch.randn(1, 16, count, height // 8, width // 8, generator=generator)
        velocities = []
        for model in (family, compiled):
            text = model.encode_text("a red circle", "the sea")
            velocities.append(model.open_clip(width, height, text, guidance_scale).denoise(noise, 0.7, 0.7))
        eager, fast = velocities
        assert (fast - eager).abs().max() < 1e-5 * eager.abs().max()
    assert counters["stats"]["unique_graphs"] == graphs

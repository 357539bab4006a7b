from __future__ import annotations

import math
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tiny_model import make_tiny_checkpoint
from videosvc.bench.memory import peak_bytes
from videosvc.engine.checkpoint import Checkpoint
from videosvc.engine.events import ChunkDone, Done, Event, StepDone, TextEncoded
from videosvc.engine.generate import Engine
from videosvc.engine.mux import Mp4Writer
from videosvc.engine.plan import Plan
from videosvc.errors import GenerationError, UserError
from videosvc.families.anyflow_far import AnyFlowFAR
from videosvc.families.load_levers import LoadLevers


def run(family: AnyFlowFAR, plan: Plan, output: Path, resume_from: Checkpoint | None = None) -> list[Event]:
    return list(Engine(family).run(plan, output, resume_from))


def read_frames(path: Path, plan: Plan) -> np.ndarray:
    """(T, H, W, 3), counted and decoded by ffmpeg, not taken from a header."""
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    command = [ffmpeg, "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, plan.height, plan.width, 3)


@pytest.fixture
def small_tiles(family: AnyFlowFAR, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that even these frames, of 8x6 latents, are decoded in 2x2."""
    spec = replace(family.spec, tile=6, tile_overlap=2)
    monkeypatch.setattr(family, "_decoders", replace(family._decoders, spec=spec))


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """What the muxer gets, piece by piece."""
    pieces: list[torch.Tensor] = []
    write = Mp4Writer.write
    monkeypatch.setattr(Mp4Writer, "write", lambda video, frames: (pieces.append(frames), write(video, frames)))
    return pieces


def test_events(family: AnyFlowFAR, plan: Plan, tmp_path: Path) -> None:
    events = run(family, plan, tmp_path / "clip.mp4")
    steps: list[type[Event]] = [StepDone] * plan.steps
    assert [type(event) for event in events] == [TextEncoded, *(3 * [*steps, ChunkDone]), Done]
    progress = [event.progress for event in events]
    assert progress == sorted(progress) and progress[0] == 0 and progress[-1] == 1
    assert [event.frames for event in events if isinstance(event, ChunkDone)] == [8, 16, 20]
    done = events[-1]
    assert isinstance(done, Done) and done.output == tmp_path / "clip.mp4"
    receipt = done.receipt.as_dict()
    assert set(receipt["by_stage"]) == {"text", "denoise", "decode", "mux"}
    assert all(seconds > 0 for seconds in receipt["by_stage"].values())
    assert receipt["compute_seconds"] == pytest.approx(sum(receipt["by_stage"].values()), abs=1e-3)
    assert (receipt["device"], receipt["resumed"]) == ("cpu", False)
    assert list(tmp_path.iterdir()) == [tmp_path / "clip.mp4"]


@pytest.mark.parametrize("seconds", [0.01, 1.0, 1.3, 2.0, 3.0])
def test_frame_count(family: AnyFlowFAR, plan: Plan, tmp_path: Path, seconds: float) -> None:
    plan = replace(plan, seconds=seconds, steps=1)
    run(family, plan, tmp_path / "clip.mp4")
    assert len(read_frames(tmp_path / "clip.mp4", plan)) == plan.frames == max(1, math.ceil(seconds * 8))


@pytest.mark.parametrize(
    ("changed", "steps"),
    [
        ({"sampler": "flow_map"}, (2, 2, 2)),
        ({"sampler": "consistency"}, (2, 2, 2)),
        ({"sampler": "unipc"}, (2, 2, 2)),
        ({"sampler": "draft", "draft_threshold": 1.0}, (2, 2, 2)),
        ({"sampler": "draft", "draft_threshold": 1e-9}, (3, 3, 3)),
        ({"decode": "full"}, (2, 2, 2)),
        ({"decode": "tiled"}, (2, 2, 2)),
        ({"steps": 3, "later_steps": 1}, (3, 1, 1)),
        ({"steps": 3, "later_steps": 2, "sampler": "consistency"}, (3, 2, 2)),
    ],
    ids=str,
)
def test_resumes_bit_for_bit_from_every_event(
    family: AnyFlowFAR, plan: Plan, tmp_path: Path, changed: dict[str, Any], steps: tuple[int, ...], small_tiles: None
) -> None:
    plan = replace(plan, **changed)
    events = run(family, plan, tmp_path / "whole.mp4")
    whole = (tmp_path / "whole.mp4").read_bytes()
    checkpoints = [event.checkpoint for event in events if isinstance(event, StepDone | ChunkDone)]
    assert len(checkpoints) == sum(steps) + 3
    for checkpoint in checkpoints:
        checkpoint.save(tmp_path / "job.safetensors")
        resumed = Checkpoint.load(tmp_path / "job.safetensors")
        done = run(family, plan, tmp_path / "resumed.mp4", resumed)[-1]
        assert (tmp_path / "resumed.mp4").read_bytes() == whole
        assert isinstance(done, Done) and done.receipt.resumed and done.receipt.steps == steps
        assert done.receipt.compute_seconds > sum(checkpoint.spent.values())


def test_chunks_landed_again_forget_nothing(family: AnyFlowFAR, plan: Plan, tmp_path: Path) -> None:
    """A job that dies once more while it lands its finished chunks must not lose the later ones."""
    events = run(family, plan, tmp_path / "clip.mp4")
    last = [event.checkpoint for event in events if isinstance(event, StepDone)][-1]
    resumed = run(family, plan, tmp_path / "clip.mp4", last)
    for event in resumed:
        if isinstance(event, ChunkDone):
            assert len(event.checkpoint.finished) >= len(last.finished) == 2


def test_runs_in_bfloat16(folder: Path, plan: Plan, tmp_path: Path) -> None:
    family = AnyFlowFAR("tiny", folder, 1, torch.device("cpu"), torch.bfloat16)
    run(family, replace(plan, guidance_scale=2.0), tmp_path / "clip.mp4")
    assert len(read_frames(tmp_path / "clip.mp4", plan)) == plan.frames


def test_memory_does_not_grow_with_length(family: AnyFlowFAR, plan: Plan, tmp_path: Path) -> None:
    def peak(seconds: float, decode: str = "stream") -> int:
        some = replace(plan, seconds=seconds, steps=1, decode=decode)

        def work() -> None:
            for _ in Engine(family).run(some, tmp_path / "clip.mp4"):
                pass

        return peak_bytes(work, family.device)

    peak(1.0)  # from here on the prompt is remembered
    short = peak(2.0)
    assert peak(8.0) <= 1.05 * short
    assert peak(8.0, "full") > 2 * short, "which would show"


def test_seed_makes_the_clip(family: AnyFlowFAR, plan: Plan, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(family, replace(plan, seed=seed), tmp_path / f"{name}.mp4")
    a, b, c = ((tmp_path / f"{name}.mp4").read_bytes() for name in "abc")
    assert a == b != c


def test_guidance_takes_the_negative_prompt(family: AnyFlowFAR, plan: Plan, tmp_path: Path) -> None:
    guided = replace(plan, guidance_scale=4.0, seconds=1.0)
    for name, negative in (("none", None), ("empty", ""), ("sea", "the blue sea")):
        run(family, replace(guided, negative_prompt=negative), tmp_path / f"{name}.mp4")
    none, empty, sea = ((tmp_path / f"{name}.mp4").read_bytes() for name in ("none", "empty", "sea"))
    assert none == empty != sea


@pytest.mark.parametrize("events", [1, 2, 4, 9])
def test_closing_midway_leaves_nothing(family: AnyFlowFAR, plan: Plan, tmp_path: Path, events: int) -> None:
    running = Engine(family).run(plan, tmp_path / "clip.mp4")
    for _ in range(events):
        next(running)
    assert not torch.is_inference_mode_enabled()  # the loop's mode must not leak to whoever drives it
    running.close()
    assert list(tmp_path.iterdir()) == []


def test_keeps_the_old_file_until_the_new_one_is_whole(family: AnyFlowFAR, plan: Plan, tmp_path: Path) -> None:
    output = tmp_path / "clip.mp4"
    output.write_bytes(b"old")
    running = Engine(family).run(plan, output)
    for _ in range(5):
        next(running)
    running.close()
    assert output.read_bytes() == b"old"


def test_names_the_step_that_went_wrong(folder: Path, plan: Plan, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    path = broken / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors["proj_out.bias"][0] = float("nan")
    save_file(tensors, path, metadata={"format": "pt"})
    family = AnyFlowFAR("tiny", broken, 1, torch.device("cpu"), torch.float32)
    with pytest.raises(GenerationError, match="step 1 of chunk 1: latents are not finite"):
        run(family, plan, tmp_path / "clip.mp4")
    assert list(tmp_path.iterdir()) == [broken]


def test_refuses_an_output_it_cannot_write_before_any_work(family: AnyFlowFAR, plan: Plan, tmp_path: Path) -> None:
    for output in (tmp_path / "no" / "such" / "clip.mp4", tmp_path):
        with pytest.raises(UserError, match="-o: ") as caught:
            next(Engine(family).run(plan, output))
        assert caught.value.param == "output"


def test_refuses_a_checkpoint_of_another_plan(family: AnyFlowFAR, plan: Plan, tmp_path: Path) -> None:
    checkpoint = Checkpoint(replace(plan, seed=6), family.model_hash, (), None, {})
    with pytest.raises(ValueError, match="another plan or model"):
        next(Engine(family).run(plan, tmp_path / "clip.mp4", checkpoint))
    with pytest.raises(ValueError, match="another plan or model"):
        next(Engine(family).run(plan, tmp_path / "clip.mp4", replace(checkpoint, plan=plan, model_hash="x")))


def test_wan_autoencoder(plan: Plan, tmp_path: Path) -> None:
    folder = make_tiny_checkpoint(tmp_path / "wan", vae="wan", chunk_partition=(1, 3, 2))
    family = AnyFlowFAR("tiny", folder, None, torch.device("cpu"), torch.float32)
    plan = replace(plan, seconds=2.0, steps=1)
    events = run(family, plan, tmp_path / "clip.mp4")
    assert [event.frames for event in events if isinstance(event, ChunkDone)] == [1, 13, 16]
    assert len(read_frames(tmp_path / "clip.mp4", plan)) == 16


@pytest.mark.parametrize("frame_cache", ["int8", "int4"])
def test_low_bit_levers_reach_the_clip_and_resume(folder: Path, plan: Plan, tmp_path: Path, frame_cache: str) -> None:
    low = AnyFlowFAR("tiny", folder, 1, torch.device("cpu"), torch.float32, LoadLevers("int8"))
    native = AnyFlowFAR("tiny", folder, 1, torch.device("cpu"), torch.float32)
    plans = [plan, replace(plan, frame_cache=frame_cache), replace(plan, frame_cache=frame_cache, weights="int8")]
    latents = []
    for family, some in zip((native, native, low), plans, strict=True):
        events = run(family, some, tmp_path / "whole.mp4")
        second = next(event for event in events if isinstance(event, ChunkDone) and event.chunk == 1)
        latents.append(second.checkpoint.finished[1])
        run(family, some, tmp_path / "resumed.mp4", second.checkpoint)
        assert (tmp_path / "resumed.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert not torch.equal(latents[0], latents[1]) and not torch.equal(latents[1], latents[2])


def test_refuses_what_the_loaded_weights_are_not(family: AnyFlowFAR, plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"weights='int8'.* but the model has .*weights='native'"):
        run(family, replace(plan, weights="int8"), tmp_path / "clip.mp4")
    with pytest.raises(ValueError, match=r"weights='native', compile=True.*, but the model has"):
        run(family, replace(plan, compile=True), tmp_path / "clip.mp4")
    with pytest.raises(UserError, match="lever frame_cache='off' makes no sense"):
        run(family, replace(plan, frame_cache="off"), tmp_path / "clip.mp4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("vae", ["causal", "wan"])
def test_decoding_all_at_once_shows_the_same_frames(
    plan: Plan, tmp_path: Path, written: list[torch.Tensor], vae: Literal["causal", "wan"]
) -> None:
    folder = make_tiny_checkpoint(tmp_path / "model", vae=vae)
    family = AnyFlowFAR("tiny", folder, 1, torch.device("cpu"), torch.float32)
    plan = replace(plan, steps=1)
    chunks = len(family.spec.chunks(plan.frames))
    run(family, plan, tmp_path / "stream.mp4")
    streamed = torch.cat(written)
    assert len(written) == chunks
    written.clear()
    events = run(family, replace(plan, decode="full"), tmp_path / "full.mp4")
    (whole,) = written
    assert [event.frames for event in events if isinstance(event, ChunkDone)] == [*(chunks - 1) * [0], plan.frames]
    off = (whole.int() - streamed.int()).abs()
    # The bundled kind's convolutions get other batches, and oneDNN's sums may then end in another bit: a level of 255
    # where rounding falls.
    assert off.max() <= (0 if vae == "wan" else 1) and off.float().mean() < 1e-3


def test_tiles_reach_the_clip(family: AnyFlowFAR, plan: Plan, tmp_path: Path, small_tiles: None) -> None:
    latents = []
    for decode in ("stream", "tiled"):
        events = run(family, replace(plan, decode=decode), tmp_path / f"{decode}.mp4")
        latents.append([event.checkpoint.finished[-1] for event in events if isinstance(event, ChunkDone)])
    stream, tiled = (read_frames(tmp_path / f"{decode}.mp4", plan) for decode in ("stream", "tiled"))
    assert all(torch.equal(a, b) for a, b in zip(*latents, strict=True))
    assert 0 < np.abs(stream.astype(float) - tiled).mean() < 10  # of 255


@pytest.mark.parametrize(("threshold", "steps"), [(1.0, 2), (1e-9, 4)])
def test_a_draft_takes_two_steps_or_all_of_them(
    family: AnyFlowFAR, plan: Plan, tmp_path: Path, threshold: float, steps: int
) -> None:
    plan = replace(plan, steps=4, sampler="draft", draft_threshold=threshold)
    events = run(family, plan, tmp_path / "clip.mp4")
    taken: list[type[Event]] = [StepDone] * steps
    assert [type(event) for event in events] == [TextEncoded, *(3 * [*taken, ChunkDone]), Done]
    progress = [event.progress for event in events]
    assert progress == sorted(progress)
    done = events[-1]
    assert isinstance(done, Done) and done.receipt.steps == (steps,) * 3
    lasts = [event for event in events if isinstance(event, StepDone) and event.step == steps]
    assert [event.steps for event in lasts] == [steps] * 3

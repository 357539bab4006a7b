"""Clips that start from a picture: on random weights what is exact, on the bundled model what people see."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tiny_model import make_tiny_checkpoint
from training.toyworld.world import Scene, Thing, render
from videosvc.config.models import load_model
from videosvc.config.request import Request, resolve_plan
from videosvc.config.settings import CHECKOUT_CONFIGS, Settings
from videosvc.engine.checkpoint import Checkpoint
from videosvc.engine.events import ChunkDone, Done, Event, StepDone
from videosvc.engine.generate import Engine
from videosvc.engine.loading import open_engine
from videosvc.engine.picture import Picture
from videosvc.engine.plan import Plan
from videosvc.errors import ModelError
from videosvc.families.anyflow_far import AnyFlowFAR


def picture_of(pixels: np.ndarray) -> Picture:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return Picture.read(file.getvalue())


def noise_picture(seed: int) -> Picture:
    return picture_of(np.random.default_rng(seed).integers(0, 256, (50, 90, 3), np.uint8))


PICTURE = noise_picture(0)


@pytest.fixture
def plan(plan: Plan) -> Plan:
    return replace(plan, input_reference=PICTURE.digest)


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> AnyFlowFAR:
    folder = make_tiny_checkpoint(tmp_path_factory.mktemp("wan"), vae="wan", chunk_partition=(1, 3, 3, 2), shift=5.0)
    return AnyFlowFAR("tiny", folder, None, torch.device("cpu"), torch.float32)


def run(
    family: AnyFlowFAR, plan: Plan, output: Path, picture: Picture | None, resume_from: Checkpoint | None = None
) -> list[Event]:
    return list(Engine(family).run(plan, output, resume_from, None, picture))


def shown(events: list[Event]) -> torch.Tensor:
    """(T, H, W, 3), as they go to the muxer."""
    return torch.cat([event.pictures for event in events if isinstance(event, ChunkDone)])


@torch.inference_mode()
def through_the_autoencoder(family: AnyFlowFAR, plan: Plan, picture: Picture) -> torch.Tensor:
    """The last frame of the picture held still, (H, W, 3)."""
    still = family.encode_picture(torch.from_numpy(picture.fitted(plan.width, plan.height)))
    clip = family.open_clip(plan.width, plan.height, family.encode_text("", None), 1.0)
    return clip.decode(still)[-1]


@pytest.mark.parametrize("decode", ["stream", "full", "tiled"])
@pytest.mark.parametrize("seconds", [0.01, 0.5, 1.0, 1.125, 2.0, 2.5])
def test_it_is_as_long_as_asked(family: AnyFlowFAR, plan: Plan, tmp_path: Path, seconds: float, decode: str) -> None:
    plan = replace(plan, seconds=seconds, steps=1, decode=decode)
    events = run(family, plan, tmp_path / "clip.mp4", PICTURE)
    assert len(shown(events)) == plan.frames == max(1, round(8 * seconds))
    assert [event.frames for event in events if isinstance(event, ChunkDone)][-1] == plan.frames
    assert (tmp_path / "clip.mp4").exists()


def test_its_first_frame_is_the_picture(family: AnyFlowFAR, wan: AnyFlowFAR, plan: Plan, tmp_path: Path) -> None:
    for made_by in (family, wan):
        frames = shown(run(made_by, plan, tmp_path / "clip.mp4", PICTURE))
        expected = through_the_autoencoder(made_by, plan, PICTURE)
        assert (frames[0].int() - expected.int()).abs().max() <= 1, "but for what sums of other batches round"
        assert (frames[1].int() - expected.int()).abs().max() > 1


def test_wans_first_latent_is_the_frame_alone(wan: AnyFlowFAR, plan: Plan, tmp_path: Path) -> None:
    """13 frames are four latents there: the picture's, and one chunk of three."""
    plan = replace(plan, seconds=13 / 8, steps=1)
    assert wan.encode_picture(torch.from_numpy(PICTURE.fitted(64, 48))).shape == (1, 16, 1, 6, 8)
    events = run(wan, plan, tmp_path / "clip.mp4", PICTURE)
    assert [event.chunks for event in events if isinstance(event, StepDone)] == [1]
    assert len(shown(events)) == 13


def test_all_that_follows_comes_of_it(family: AnyFlowFAR, plan: Plan, tmp_path: Path) -> None:
    other = noise_picture(1)
    one = shown(run(family, plan, tmp_path / "clip.mp4", PICTURE))
    two = shown(run(family, replace(plan, input_reference=other.digest), tmp_path / "clip.mp4", other))
    assert all(not torch.equal(a, b) for a, b in zip(one[:9], two[:9], strict=True))


@pytest.mark.parametrize("decode", ["stream", "full"])
@pytest.mark.parametrize("kind", ["causal", "wan"])
def test_resumes_bit_for_bit_from_every_event(
    family: AnyFlowFAR, wan: AnyFlowFAR, plan: Plan, tmp_path: Path, decode: str, kind: str
) -> None:
    plan, made_by = replace(plan, decode=decode), wan if kind == "wan" else family
    events = run(made_by, plan, tmp_path / "whole.mp4", PICTURE)
    whole = (tmp_path / "whole.mp4").read_bytes()
    checkpoints = [event.checkpoint for event in events if isinstance(event, StepDone | ChunkDone)]
    for checkpoint in checkpoints:
        checkpoint.save(tmp_path / "job.safetensors")
        resumed = Checkpoint.load(tmp_path / "job.safetensors")
        assert resumed.plan.input_reference == PICTURE.digest
        done = run(made_by, plan, tmp_path / "resumed.mp4", PICTURE, resumed)[-1]
        assert (tmp_path / "resumed.mp4").read_bytes() == whole
        assert isinstance(done, Done) and done.receipt.resumed


def test_another_picture_than_the_plans_is_refused(family: AnyFlowFAR, plan: Plan, tmp_path: Path) -> None:
    bare = replace(plan, input_reference=None)
    for asked, picture in ((plan, None), (plan, noise_picture(1)), (bare, PICTURE)):
        with pytest.raises(ValueError, match="picture: not the one that the plan starts from"):
            run(family, asked, tmp_path / "clip.mp4", picture)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_says_so(tmp_path: Path, plan: Plan) -> None:
    folder = make_tiny_checkpoint(tmp_path / "model", vae="wan", chunk_partition=(3, 3))
    family = AnyFlowFAR("tiny", folder, None, torch.device("cpu"), torch.float32)
    assert not family.spec.takes_picture
    with pytest.raises(ModelError) as refused:
        run(family, plan, tmp_path / "clip.mp4", PICTURE)
    assert refused.value.param == "input_reference" and not (tmp_path / "clip.mp4").exists()


def test_the_bundled_model_goes_on_from_the_picture(tmp_path: Path) -> None:
    """Levels of 255, mean over pixels. Scenes differ by 60 and more; drawn clips change by 2 to 6 a frame."""
    scene = Scene((Thing("balloon", "red", "medium", "up", 0.5, 0.5),), "hills")
    pixels = render(scene, 64, 64, 1)[0][0].permute(1, 2, 0).numpy()
    picture = picture_of(pixels)
    request = Request("a red balloon floats up over green hills", seconds=1.0, seed=7, picture=picture)
    plan = resolve_plan(request, CHECKOUT_CONFIGS, Settings()).plan
    engine = open_engine(load_model(CHECKOUT_CONFIGS, "toyworld"), "cpu")
    frames = shown(list(engine.run(plan, tmp_path / "clip.mp4", picture=picture))).int()
    apart = (frames - torch.from_numpy(pixels).int()).abs().float().mean(dim=(1, 2, 3))
    assert apart[0] < 8, "the first frame is the picture, but for what the autoencoder loses"
    assert apart[1] < 25, "the second is near: no jump"
    assert (frames[1:] - frames[:-1]).abs().float().mean(dim=(1, 2, 3)).max() < 25
    assert (frames[-1] - frames[0]).abs().max() > 40, "something moves"

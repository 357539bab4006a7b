from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from toyworld_batch import small_transformer
from training.toyworld import autoencoder, decoder, distil, flow, latents, polish, recipe
from training.toyworld.clips import Clips, Order
from training.toyworld.world import render
from videosvc.config.models import ModelEntry
from videosvc.engine.events import Done
from videosvc.engine.generate import Engine
from videosvc.engine.plan import Plan
from videosvc.families.anyflow_far import AnyFlowFAR
from videosvc.families.registry import load_family


def _draw(orders: list[Order]) -> Clips:
    """Draws four of them, again and again, in this process."""
    drawn = [render(order.scene, order.size, order.size, order.frames, order.start_s) for order in orders[:4]]
    frames, covered = (torch.stack(parts) for parts in zip(*drawn, strict=True))
    index = torch.arange(len(orders)) % len(drawn)
    return Clips([order.scene for order in orders], frames[index], covered[index])


def _uncompiled(model: Any, **_: Any) -> Any:
    return model


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe as it is, on a few clips and with a transformer that learns nothing in seconds."""
    monkeypatch.setattr(recipe, "CLIPS", {64: 12, 96: 6})
    monkeypatch.setattr(autoencoder, "CLIPS_PER_SIZE", {64: 8, 72: 4, 80: 4})
    monkeypatch.setattr(autoencoder, "draw", _draw)
    monkeypatch.setattr(latents, "draw", _draw)
    monkeypatch.setattr(decoder, "CLIPS_PER_SIZE", {64: 8, 96: 4})
    monkeypatch.setattr(decoder, "SIZE_WEIGHTS", {64: 1, 96: 1})
    monkeypatch.setattr(decoder, "draw", _draw)
    monkeypatch.setattr(flow, "make_transformer", small_transformer)
    monkeypatch.setattr(flow, "BATCH_TOKENS", 144)
    monkeypatch.setattr(distil, "BATCH_TOKENS", 144)
    monkeypatch.setattr(polish, "BATCH_TOKENS", 144)
    monkeypatch.setattr(polish, "CRITIC_ALONE", 0.0)
    monkeypatch.setattr(torch, "compile", _uncompiled)


def checkpoint(work: Path, stage: str) -> dict[str, Any]:
    (path,) = work.rglob(f"{stage}.pt")
    saved: dict[str, Any] = torch.load(path, weights_only=True)
    return saved


def test_the_recipe_makes_a_model_that_generates(small: None, tmp_path: Path) -> None:
    work = tmp_path / "work"
    output = recipe.run(0.1, work)
    entry = ModelEntry(name="fresh", path=str(output), family="anyflow_far", sizes=("64x64",), window_chunks=1)
    family = load_family(entry, torch.device("cpu"), torch.float32)
    assert isinstance(family, AnyFlowFAR)
    assert (family.spec.channels, family.spec.chunk, family.spec.first_frames) == (autoencoder.LATENT_CHANNELS, 2, 4)
    plan = Plan(
        model="fresh", prompt="a red balloon rises over hills", negative_prompt=None, seed=1, width=80, height=64,
        fps=8, seconds=1.5, steps=2, sampler="flow_map", guidance_scale=1.0, weights="native",
        frame_cache="native", decode="stream",
    )  # fmt: skip
    done = list(Engine(family).run(plan, tmp_path / "clip.mp4"))[-1]
    assert isinstance(done, Done) and done.output.stat().st_size > 1000

    for name in ("transformer", "text_encoder", "vae"):
        weights = [value for file in (output / name).glob("*.safetensors") for value in load_file(file).values()]
        assert weights and all(value.dtype == torch.bfloat16 for value in weights)
    # What was learnt goes on in float32, whatever the folder holds.
    saved = checkpoint(work, "distil")
    assert {value.dtype for value in saved["model"].values()} == {torch.float32}
    assert saved["step"] >= 1
    polished = checkpoint(work, "polish")["ema"]
    assert any(not torch.equal(value, saved["ema"][name]) for name, value in polished.items())
    written = load_file(next((output / "transformer").glob("*.safetensors")))
    assert all(torch.equal(value, polished[f"transformer.{name}"].bfloat16()) for name, value in written.items())
    # The latents stay what the transformer was trained on: only the decoder was finished.
    first, finished = (checkpoint(work, name)["model"] for name in ("autoencoder", "decoder"))
    changed = {name for name in first if not torch.equal(first[name], finished[name])}
    assert changed and not any(name.startswith("encoder") for name in changed)

    # A second run finds every stage finished, and gives the same model.
    before = {file.name: file.read_bytes() for file in (output / "transformer").iterdir()}
    assert recipe.run(0.1, work) == output
    assert {file.name: file.read_bytes() for file in (output / "transformer").iterdir()} == before

    # It takes the place of what was there, with all that belonged to it.
    place = tmp_path / "bundled"
    (place / "tiny_decoder").mkdir(parents=True)
    recipe.put_in_place(output, place)
    assert {path.relative_to(place) for path in place.rglob("*")} == {
        path.relative_to(output) for path in output.rglob("*")
    }
    assert list(tmp_path.glob("bundled.*")) == []


@pytest.mark.parametrize("words", [["--budget", "0"], ["--budget", "nan"], ["--clips", "1"]])
def test_what_would_train_nothing_is_refused(words: list[str]) -> None:
    command = [sys.executable, "-m", "training.toyworld.recipe", *words]
    refused = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].partition("error: ")[2].startswith(f"{words[0]}: ")

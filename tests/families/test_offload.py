"""Parts that leave the device when they are not used. The moves are accelerate's; what is ours is to ask for them.

The device that they come back to is the CPU here, as no other runs everywhere; where they are is seen on `meta`, which
holds no numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.hooks import CpuOffload
from torch import Tensor
from transformers import UMT5EncoderModel

from tiny_model import add_tiny_decoder
from tiny_wan import make_tiny_wan
from videosvc.config.models import ModelEntry
from videosvc.errors import ModelError
from videosvc.families import anyflow_far, offload
from videosvc.families.anyflow_far import AnyFlowFAR
from videosvc.families.clip_decoder import Present
from videosvc.families.components import Components
from videosvc.families.decoder import autoencoder_class
from videosvc.families.decoders import Decoders
from videosvc.families.offload import OFFLOADED, decoder_while, encoder_on_call
from videosvc.families.prompt_encoder import PromptEncoder
from videosvc.families.registry import load_family
from videosvc.families.wan import Wan
from videosvc_kernels import use_onednn

CPU, META = torch.device("cpu"), torch.device("meta")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_wan(tmp_path_factory.mktemp("wan"))


@pytest.fixture(scope="module")
def family(folder: Path) -> Wan:
    return Wan("tiny", folder, CPU, torch.float32)


@pytest.fixture(scope="module")
def components(folder: Path) -> Components:
    return Components("tiny", folder, CPU, torch.float32)


@torch.inference_mode()
def test_a_text_encoder_is_put_away_after_each_text(components: Components, family: Wan) -> None:
    encoder, hooked = encoder_on_call(components.load(UMT5EncoderModel, "text_encoder"), CPU)
    away: list[str] = []

    def put_away() -> None:
        hooked()
        away.append("away")

    there = PromptEncoder(components.tokenizer(), encoder, put_away).encode("a red circle", "the sea")
    here = family.encode_text("a red circle", "the sea")
    assert away == 2 * ["away"]
    assert torch.equal(there.prompt, here.prompt)


def latents(count: int = 3) -> Tensor:
    return torch.randn(1, 16, count, 4, 4, generator=torch.Generator().manual_seed(2))


@torch.inference_mode()
@pytest.mark.parametrize("decode", ["stream", "tiled", "full"])
def test_an_autoencoder_that_comes_and_goes_decodes_the_same(components: Components, family: Wan, decode: str) -> None:
    vae = components.load(autoencoder_class("tiny", "AutoencoderKLWan"), "vae")
    use_onednn(vae)  # as the family does it
    decoder = Decoders.of(components, vae, family.spec, decoder_while(vae, CPU)).open(decode)
    there = family.open_clip(32, 32, family.encode_text("a red circle", None), 1.0, decode=decode)
    assert torch.equal(decoder.preview(latents()), there.preview(latents()))
    assert torch.equal(decoder.decode(latents()), there.decode(latents()))
    assert torch.equal(decoder.decode(latents(2)), there.decode(latents(2)))  # what its state is goes on


def test_only_what_decodes_moves_and_it_goes_back_after_an_error(components: Components) -> None:
    vae = components.load(autoencoder_class("tiny", "AutoencoderKLWan"), "vae")
    present = decoder_while(vae, META)

    def places() -> tuple[str, ...]:
        parts = (vae.decoder, vae.post_quant_conv, vae.encoder)
        return tuple(next(part.parameters()).device.type for part in parts)

    assert places() == ("cpu", "cpu", "cpu")
    with pytest.raises(NotImplementedError, match="meta"), present():  # numbers do not come back from there
        assert places() == ("meta", "meta", "cpu")


def test_a_half_that_does_not_come_whole_is_taken_back(components: Components, monkeypatch: pytest.MonkeyPatch) -> None:
    vae = components.load(autoencoder_class("tiny", "AutoencoderKLWan"), "vae")
    present = decoder_while(vae, torch.device("cpu"))

    def crowded(hook: CpuOffload, module: torch.nn.Module) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    taken_back: list[torch.nn.Module] = []
    monkeypatch.setattr(CpuOffload, "pre_forward", crowded)
    monkeypatch.setattr(CpuOffload, "init_hook", lambda hook, module: taken_back.append(module))
    with pytest.raises(torch.OutOfMemoryError), present():
        raise AssertionError("it is not there")
    assert len(taken_back) == 1


@torch.inference_mode()
def test_a_tiny_decoder_leaves_it_where_it_is(components: Components, family: Wan, tmp_path: Path) -> None:
    folder = add_tiny_decoder(make_tiny_wan(tmp_path / "tiny"))
    own = Components("tiny", folder, CPU, torch.float32)
    vae = own.load(autoencoder_class("tiny", "AutoencoderKLWan"), "vae")
    decoders = Decoders.of(own, vae, family.spec, decoder_while(vae, META))
    assert decoders.open("tiny").decode(latents()).shape == (9, 32, 32, 3)
    assert decoders.open("stream").preview(latents()).shape == (32, 32, 3)


@pytest.fixture
def anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU counts as a device to offload from."""
    monkeypatch.setattr(offload, "offload_refusal", lambda *_: None)


@pytest.mark.usefixtures("anywhere")
@torch.inference_mode()
def test_a_causal_clip_is_the_same_where_parts_come_and_go(wan_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moves: list[str] = []
    for name in ("decoder_while", "picture_encoder_while"):
        monkeypatch.setattr(anyflow_far, name, counted(moves, name, getattr(offload, name)))
    entry = ModelEntry(name="tiny", path=str(wan_folder), family="anyflow_far", sizes=("64x64",))
    made = []
    for parts in ((), OFFLOADED):
        model = load_family(entry.model_copy(update={"offload": parts}), CPU, torch.float32)
        clip = model.open_clip(32, 32, model.encode_text("a red circle", "the sea"), 3.0)
        still = model.encode_picture(torch.arange(32 * 32 * 3, dtype=torch.uint8).view(32, 32, 3))
        clip.append(still)
        velocity = clip.denoise(latents(), 1.0, 0.5)
        made.append((still, velocity, clip.preview(latents()), clip.decode(still), clip.decode(latents())))
        assert moves == (["picture_encoder_while", *3 * ["decoder_while"]] if parts else [])
    assert all(torch.equal(here, there) for here, there in zip(*made, strict=True))


def counted(moves: list[str], name: str, present_while: Callable[[Any, torch.device], Present]) -> Any:
    """Which notes each time that the part comes."""

    def noted(vae: Any, device: torch.device) -> Present:
        present = present_while(vae, device)

        def arrive() -> AbstractContextManager[None]:
            moves.append(name)
            return present()

        return arrive

    return noted


def test_an_autoencoder_that_is_not_wans_stays(causal_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"offload of vae cannot be: .* and this is a CausalConvAutoencoder"):
        AnyFlowFAR("tiny", causal_folder, 1, CPU, torch.float32, offload=["vae"])


@pytest.mark.parametrize("part", OFFLOADED)
def test_a_cpu_has_nowhere_to_offload_from(folder: Path, wan_folder: Path, part: str) -> None:
    says = f"offload of {part} cannot be: it needs a GPU to come back from"
    with pytest.raises(ModelError, match=says):
        Wan("tiny", folder, CPU, torch.float32, offload=[part])
    with pytest.raises(ModelError, match=says):
        AnyFlowFAR("tiny", wan_folder, None, CPU, torch.float32, offload=[part])

"""Low-bit weights and frame caches on whole clips: how far they are from the same clip without them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tiny_model import make_tiny_checkpoint
from videosvc.config.settings import PACKAGE
from videosvc.errors import ModelError
from videosvc.families import anyflow_far, block_levers, low_bit_weights
from videosvc.families.anyflow_far import AnyFlowFAR
from videosvc.families.compiled_blocks import compile_refusal
from videosvc.families.far_clip import FarClip
from videosvc.families.far_codecs import codec_refusal
from videosvc.families.load_levers import LoadLevers
from videosvc_kernels import Fp8Linear, Int8Linear, LowBitLinear, fp8_linear
from videosvc_samplers import SamplerState, flow_map, flow_sigmas

BUNDLED = PACKAGE / "bundled" / "toyworld"


def load(folder: Path, weights: str = "native", kept: Path | None = None, compiled: bool = False) -> AnyFlowFAR:
    return AnyFlowFAR("tiny", folder, 1, torch.device("cpu"), torch.float32, LoadLevers(weights, compiled), kept)


@torch.inference_mode()
def made(family: AnyFlowFAR, frame_cache: str = "native", chunks: int = 2) -> tuple[list[Tensor], int]:
    """Latents of each chunk, in 4 steps at 64x64, and the bytes of the cache at the end."""
    clip = family.open_clip(64, 64, family.encode_text("a red circle moves left", None), 1.0, frame_cache)
    assert isinstance(clip, FarClip)
    generator, latents = torch.Generator().manual_seed(3), []
    for _ in range(chunks):
        noise = torch.randn(1, family.spec.channels, family.spec.chunk, 8, 8, generator=generator)
        *_, state = flow_map(clip.denoise, SamplerState.start(noise), flow_sigmas(4, family.shift))
        clip.append(state.latents)
        latents.append(state.latents)
    return latents, clip.cache_bytes


def distance(some: list[Tensor], others: list[Tensor]) -> float:
    there = torch.cat(others)
    return float(torch.linalg.vector_norm(torch.cat(some) - there) / torch.linalg.vector_norm(there))


def test_the_bundled_models_clips_stay_close() -> None:
    families = {weights: load(BUNDLED, weights) for weights in ("native", "int8", "fp8")}
    native, bytes_held = made(families["native"])
    for weights, frame_cache, bound, share in (
        ("int8", "native", 0.2, 1.0),  # measured: 0.05
        ("fp8", "native", 0.2, 1.0),  # 0.04
        ("native", "int8", 0.02, (1 + 4 / 32) / 4),  # 0.001
        ("native", "int4", 0.25, (1 / 2 + 2 / 32) / 4),  # 0.02
        ("int8", "int4", 0.3, (1 / 2 + 2 / 32) / 4),  # 0.1
    ):
        latents, low = made(families[weights], frame_cache)
        assert 0 < distance(latents, native) < bound, (weights, frame_cache)
        assert low == share * bytes_held, (weights, frame_cache)
        if weights == "native":  # nothing is remembered yet
            assert torch.equal(latents[0], native[0])


@pytest.mark.parametrize(("frame_cache", "bound"), [("int8", 1e-3), ("int4", 0.01)])  # measured: 6e-5 and 1.2e-3
def test_chunks_that_turn_coarse_are_encoded_too(causal_folder: Path, frame_cache: str, bound: float) -> None:
    family = load(causal_folder)
    family.window_chunks = None
    native, bytes_held = made(family, chunks=5)
    latents, low = made(family, frame_cache, chunks=5)
    assert 0 < distance(latents, native) < bound
    assert low < 0.3 * bytes_held


@torch.inference_mode()
@pytest.mark.parametrize("weights", ["int8", "fp8"])
def test_guidance_with_both_levers(causal_folder: Path, weights: str) -> None:
    velocities = []
    for lever, frame_cache in (("native", "native"), (weights, "int8")):
        family = load(causal_folder, weights=lever)
        clip = family.open_clip(64, 64, family.encode_text("red", "blue"), 2.5, frame_cache)
        noise = torch.randn(1, 16, 2, 8, 8, generator=torch.Generator().manual_seed(0))
        clip.append(noise)
        velocities.append(clip.denoise(noise, 1.0, 0.5))
    assert 0 < distance(velocities[1:], velocities[:1]) < 0.03


@pytest.mark.parametrize(("weights", "layer"), [("int8", Int8Linear), ("fp8", Fp8Linear)])
def test_only_the_blocks_are_in_few_bits(causal_folder: Path, weights: str, layer: type[LowBitLinear]) -> None:
    plain, model = (load(causal_folder, lever)._forward.model for lever in ("native", weights))
    low = {name: part for name, part in model.named_modules() if isinstance(part, layer)}
    high = [name for name, part in model.named_modules() if isinstance(part, nn.Linear)]
    assert low and all(name.startswith("blocks.") for name in low)
    before = sum(plain.get_submodule(name).weight.nbytes for name in low)
    assert sum(part.codes.nbytes + part.scale.nbytes for part in low.values()) < 0.28 * before  # rows are 48 long
    assert "proj_out" in high and "condition_embedder.time_proj" in high


@pytest.mark.parametrize(("weights", "narrow"), [("int8", 5e-4), ("fp8", 2e-3)])
def test_sensitive_layers_stay(
    causal_folder: Path, monkeypatch: pytest.MonkeyPatch, weights: str, narrow: float
) -> None:
    def lowered(tolerance: float) -> int:
        for module in (low_bit_weights, block_levers):
            monkeypatch.setattr(module, "TOLERANCES", {weights: tolerance})
        model = load(causal_folder, weights)._forward.model
        return sum(isinstance(part, LowBitLinear) for part in model.modules())

    assert lowered(1.0) == 2 * 10 > lowered(narrow) > 0
    with pytest.raises(ModelError, match=f"lever weights='{weights}' cannot be: no layer stands it within 0%"):
        lowered(0.0)


@pytest.mark.parametrize("weights", ["int8", "fp8"])
def test_measures_once_a_checkpoint(
    causal_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str
) -> None:
    wanted, _ = made(load(causal_folder, weights, kept=tmp_path / "new"))
    (path,) = (tmp_path / "new").iterdir()
    whole = path.read_bytes()

    def measured(self: AnyFlowFAR) -> Tensor:
        raise AssertionError("measured again")

    with monkeypatch.context() as patch:
        patch.setattr(AnyFlowFAR, "_trial", measured)
        again, _ = made(load(causal_folder, weights, kept=tmp_path / "new"))
    assert distance(again, wanted) == 0

    path.write_bytes(whole[:-1])  # damaged: made anew
    again, _ = made(load(causal_folder, weights, kept=tmp_path / "new"))
    assert distance(again, wanted) == 0 and path.stat().st_size == len(whole)

    (tmp_path / "file").touch()  # nowhere to write
    again, _ = made(load(causal_folder, weights, kept=tmp_path / "file" / "below"))
    assert distance(again, wanted) == 0


def test_what_is_stored_in_fp8_may_not_stand_being_multiplied(
    causal_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CPU emulates a GPU's fp8 products: their layers are chosen, and kept, apart from those that are stored."""
    native, _ = made(load(causal_folder))
    stored, _ = made(load(causal_folder, "fp8", kept=tmp_path))
    monkeypatch.setattr(fp8_linear, "fp8_product_refusal", lambda device: None)
    monkeypatch.setattr(low_bit_weights, "fp8_product_refusal", lambda device: None)
    multiplied, _ = made(load(causal_folder, "fp8", kept=tmp_path))
    assert len(list(tmp_path.iterdir())) == 2
    assert 0 < distance(stored, native) < distance(multiplied, native) < 0.03  # measured: 0.0030 and 0.0036


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, while it compiles
@pytest.mark.parametrize("weights", ["native", "int8", "fp8"])
def test_compiled_clips_stay_close(causal_folder: Path, weights: str) -> None:
    """At sizes, numbers of rows and chunks it was not compiled for as well."""
    if reason := compile_refusal(torch.device("cpu")):
        with pytest.raises(ModelError, match=reason):
            load(causal_folder, weights, compiled=True)
        return
    eager = load(causal_folder, weights)
    family = load(causal_folder, weights, compiled=True)
    assert family.levers.compile and not eager.levers.compile
    wanted, _ = made(eager, "int8", chunks=3)
    clips, _ = made(family, "int8", chunks=3)
    assert distance(clips, wanted) < (1e-5 if weights == "native" else 0.05)


def test_levers_that_cannot_be_are_refused(causal_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"lever frame_cache='off' makes no sense .* would encode them anew"):
        made(load(causal_folder), "off")
    monkeypatch.setattr(block_levers, "fp8_refusal", lambda device: f"{device} stores no fp8 (none)")
    with pytest.raises(ModelError, match=r"model 'tiny': lever weights='fp8' cannot be: cpu stores no fp8"):
        load(causal_folder, weights="fp8")
    monkeypatch.setattr(block_levers, "int8_refusal", lambda device: f"{device} has no int8 matrix product (none)")
    with pytest.raises(ModelError, match=r"model 'tiny': lever weights='int8' cannot be: cpu has no int8"):
        load(causal_folder, weights="int8")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64"})
    with pytest.raises(ModelError, match=r"lever weights='bf16' cannot be: this CPU has neither avx512_bf16 nor amx"):
        load(causal_folder, weights="bf16")
    monkeypatch.setenv("CXX", "no-such-compiler")
    with (
        torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}),
        pytest.raises(ModelError, match=r"lever compile=true cannot be: compiling for a CPU needs a C\+\+ compiler"),
    ):
        load(causal_folder, compiled=True)


def test_measures_anew_what_was_replaced_or_is_of_another_type(tmp_path: Path) -> None:
    """The hash samples large files: one that was written again, of the same size, is told by its time."""
    folder, kept = make_tiny_checkpoint(tmp_path / "model"), tmp_path / "kept"
    load(folder, "int8", kept=kept)
    (path,) = kept.iterdir()
    first = path.read_bytes()
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    was = weights.stat()
    os.utime(weights, ns=(was.st_atime_ns, was.st_mtime_ns + 1))
    load(folder, "int8", kept=kept)
    assert path.read_bytes() != first and list(kept.iterdir()) == [path]
    AnyFlowFAR("tiny", folder, 1, torch.device("cpu"), torch.bfloat16, LoadLevers("int8"), kept)
    assert len(list(kept.iterdir())) == 2


def test_fused_blocks_that_fail_are_refused_at_load(causal_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fused_block = pytest.importorskip("videosvc.families.fused_block")

    def fails(*arguments: object) -> None:
        raise RuntimeError("Failed to find C compiler.\nSpecify one")

    monkeypatch.setattr(block_levers, "fused_refusal", lambda device: None)
    monkeypatch.setattr(fused_block, "quantize_modulated", fails)
    with pytest.raises(ModelError, match=r"model 'tiny': lever weights='int8' cannot be: Failed to find C compiler\.$"):
        load(causal_folder, "int8")


def test_a_frame_cache_that_cannot_be_read_is_refused(causal_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert codec_refusal("int4", 24, torch.device("cpu"), torch.float32) is None
    refused = codec_refusal("int8", 24, torch.device("meta"), torch.float32)
    assert refused is not None and refused.startswith("lever frame_cache='int8' cannot be: ") and "\n" not in refused
    monkeypatch.setattr(anyflow_far, "codec_refusal", lambda name, *_: refused if name == "int8" else None)
    family = load(causal_folder)
    made(family, "int4", chunks=1)
    with pytest.raises(ModelError, match="model 'tiny': lever frame_cache='int8' cannot be: "):
        made(family, "int8", chunks=1)

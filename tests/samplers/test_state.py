from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from videosvc_samplers import SamplerState, flow_sigmas, unipc


def test_start_has_nothing_behind_it() -> None:
    state = SamplerState.start(torch.ones(1, 2, 3, 4, 4))
    assert (state.step, state.denoised, state.history, state.rng) == (0, None, (), None)


def test_advance_keeps_the_generator_unless_told() -> None:
    x = torch.zeros(1, 2)
    start = SamplerState.start(x, seed=5)
    kept = start.advance(x, denoised=x)
    assert kept.step == 1
    assert kept.rng is start.rng
    other = torch.Generator().manual_seed(6).get_state()
    assert start.advance(x, denoised=x, rng=other).rng is other


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_survives_a_safetensors_file(tmp_path: Path, dtype: torch.dtype) -> None:
    # Transposed: safetensors takes neither strides nor the memory that `denoised` and `history` share here.
    noise = torch.randn(1, 2, 3, 4, 5, dtype=torch.float64).to(dtype).transpose(1, 2)
    start = SamplerState.start(noise, seed=3)
    for state in unipc(lambda x, t, r: torch.tanh(x + t), start, flow_sigmas(3)):
        save_file(state.to_tensors(), tmp_path / "state.safetensors")
        read = SamplerState.from_tensors(load_file(tmp_path / "state.safetensors"))
        assert read.step == state.step
        assert read.latents.dtype == dtype
        assert state.denoised is not None and read.denoised is not None
        assert state.rng is not None and read.rng is not None
        assert torch.equal(read.latents, state.latents)
        assert torch.equal(read.denoised, state.denoised)
        assert torch.equal(read.rng, state.rng)
        assert len(read.history) == len(state.history)
        assert all(torch.equal(a, b) for a, b in zip(read.history, state.history, strict=True))


@pytest.mark.parametrize("name", ["latents", "step"])
def test_names_the_tensor_that_is_missing(name: str) -> None:
    tensors = SamplerState.start(torch.zeros(1, 2)).to_tensors()
    del tensors[name]
    with pytest.raises(ValueError, match=f"sampler state: tensor '{name}' is missing"):
        SamplerState.from_tensors(tensors)

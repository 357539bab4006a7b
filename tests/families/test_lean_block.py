"""The CPU's lean blocks against the plain ones."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AnyFlowFARTransformer3DModel, WanTransformer3DModel
from torch import Tensor, nn

from videosvc.families.anyflow_far import AnyFlowFAR
from videosvc.families.far_attention import Memory
from videosvc.families.far_forward import FarForward
from videosvc.families.lean_block import LeanBlock, lighten_blocks
from videosvc.families.load_levers import LoadLevers
from videosvc_kernels import Int8Linear, Rotation, quantize_linears

CPU = torch.device("cpu")
CHANNELS = 48

pytestmark = pytest.mark.usefixtures("poisoned_outputs")


def plain_model(folder: Path) -> Any:
    """As it is loaded, made ready for cached chunks."""
    model = AnyFlowFARTransformer3DModel.from_pretrained(folder, subfolder="transformer")
    # What is one at the start of training, and would hide what a norm's weight does.
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return FarForward(model).model


def lean(model: Any) -> Any:
    twin = copy.deepcopy(model)
    assert lighten_blocks(twin) == len(twin.blocks)
    return twin


def inputs(rows: int, tokens: int, each: bool, remembers: bool = True) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(tokens)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    rotation = Rotation.of_frames(3, tokens, 1, 1, CHANNELS // 2)
    if each:
        rotation = Rotation.of_rows([rotation, *(rows - 1) * [Rotation.of_frames(9, tokens, 1, 1, CHANNELS // 2)]])
    text, past = [
        (random(rows, 2, length, CHANNELS // 2), random(rows, 2, length, CHANNELS // 2)) for length in (5, 7)
    ]
    return random(rows, tokens, CHANNELS), text, random(rows, 1, 6, CHANNELS), rotation, past if remembers else None


def through(block: nn.Module, *arguments: Any, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """What the block makes of them, and what it leaves in its memory."""
    hidden, text, time, rotation, past = arguments
    text, past = (None if pair is None else tuple(x.to(dtype) for x in pair) for pair in (text, past))
    left: list[Tensor] = []
    y = block(hidden.to(dtype), text, time, rotation, None, Memory(past, lambda *pair: left.extend(pair)), None)
    return [y, *left]


@torch.inference_mode()
@pytest.mark.parametrize(("rows", "tokens", "each"), [(1, 1, False), (1, 6, True), (2, 7, False), (3, 6, True)])
@pytest.mark.parametrize("remembers", [False, True])
def test_a_lean_block_is_the_block(causal_folder: Path, rows: int, tokens: int, each: bool, remembers: bool) -> None:
    plain = plain_model(causal_folder)
    arguments = inputs(rows, tokens, each, remembers)
    plainly = through(plain.blocks[1], *arguments)
    for found, wanted in zip(through(lean(plain).blocks[1], *arguments), plainly, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_bfloat16_errs_no_more_than_the_block_does(causal_folder: Path) -> None:
    plain = plain_model(causal_folder)
    arguments = inputs(2, 7, each=False)
    exact = through(plain.blocks[1], *arguments)
    low = plain.to(torch.bfloat16)
    models = (low, lean(low))
    plainly, leanly = (through(model.blocks[1], *arguments, dtype=torch.bfloat16) for model in models)
    for wanted, stock, ours in zip(exact, plainly, leanly, strict=True):
        assert ours.dtype == torch.bfloat16
        assert torch.linalg.vector_norm(ours - wanted) < 1.1 * torch.linalg.vector_norm(stock - wanted)


@torch.inference_mode()
@pytest.mark.parametrize("kept", [(), ("to_k", "attn2.to_q", "ffn.net.2"), ("to_q", "to_k", "to_v")])
def test_low_bit_layers_are_used_as_they_are(causal_folder: Path, kept: tuple[str, ...]) -> None:
    model = plain_model(causal_folder)
    quantize_linears(model.blocks, Int8Linear, lambda name, _: name.endswith(kept) if kept else False)
    arguments = inputs(1, 6, each=False)
    for found, wanted in zip(
        through(lean(model).blocks[0], *arguments), through(model.blocks[0], *arguments), strict=True
    ):
        # A code that is rounded the other way is a step of 1/127 of its row's largest number; few are.
        assert torch.linalg.vector_norm(found - wanted) < 2e-3 * torch.linalg.vector_norm(wanted)


def test_names_and_weights_stay_and_nothing_is_there_twice(causal_folder: Path) -> None:
    plain = plain_model(causal_folder)
    light = lean(plain)
    ours, its = light.state_dict(), plain.state_dict()
    assert ours.keys() == its.keys() and all(torch.equal(ours[name], its[name]) for name in its)
    own = light.blocks[0].attn1
    assert len({layer.weight.untyped_storage().data_ptr() for layer in (own.to_q, own.to_k, own.to_v)}) == 1


def test_blocks_of_other_models_stay(causal_folder: Path) -> None:
    wan = WanTransformer3DModel(num_attention_heads=2, attention_head_dim=12, ffn_dim=8, num_layers=1, text_dim=4)
    bare = plain_model(causal_folder)
    bare.blocks[0].norm2 = nn.Identity()
    before = wan.blocks[0], bare.blocks[0]
    assert lighten_blocks(wan) == 0 and lighten_blocks(bare) == len(bare.blocks) - 1
    assert wan.blocks[0] is before[0] and bare.blocks[0] is before[1]


@pytest.mark.parametrize("weights", ["native", "int8"])
def test_a_cpu_has_them(causal_folder: Path, weights: str) -> None:
    loaded = AnyFlowFAR("tiny", causal_folder, 1, CPU, torch.float32, LoadLevers(weights))
    assert all(isinstance(block, LeanBlock) for block in loaded.transformer.blocks)

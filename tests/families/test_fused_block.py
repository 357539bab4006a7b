"""The GPU's fused blocks against the plain ones, on the CPU through Triton's interpreter."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AnyFlowFARTransformer3DModel, WanTransformer3DModel
from torch import Tensor, nn

from triton_device import DEVICE, INTERPRETED
from videosvc.families.anyflow_far import AnyFlowFAR
from videosvc.families.far_attention import Memory
from videosvc.families.far_forward import FarForward
from videosvc.families.fused_block import FusedBlock, fuse_blocks
from videosvc.families.load_levers import LoadLevers
from videosvc_kernels import Int8Linear, Rotation, quantize_linears

pytestmark = [INTERPRETED, pytest.mark.usefixtures("poisoned_outputs", "int8_products")]


@pytest.fixture(scope="module")
def family(causal_folder: Path) -> AnyFlowFAR:
    """With plain blocks: on a CPU it would have lean ones."""
    family = AnyFlowFAR("tiny", causal_folder, 1, DEVICE, torch.float32)
    plain = AnyFlowFARTransformer3DModel.from_pretrained(causal_folder, subfolder="transformer").to(DEVICE)
    family._forward.model = FarForward(plain).model
    return family


def quantised(transformer: Any, kept: tuple[str, ...] = ()) -> Any:
    """A copy in int8 but for the layers whose names end in one of `kept`."""
    twin = copy.deepcopy(transformer)
    quantize_linears(twin.blocks, Int8Linear, lambda name, _: name.endswith(kept) if kept else False)
    return twin


def inputs(rows: int, tokens: int, channels: int, each: bool) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(tokens)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(DEVICE)

    rotation = Rotation.of_frames(3, tokens, 1, 1, channels // 2, device=DEVICE)
    if each:
        rotation = Rotation.of_rows(rows * [rotation])
    text, past = [(random(rows, 2, length, channels // 2), random(rows, 2, length, channels // 2)) for length in (5, 7)]
    return random(rows, tokens, channels), text, random(rows, 1, 6, channels), rotation, None, past


def through(block: nn.Module, *arguments: Any) -> tuple[Tensor, list[Tensor]]:
    """What the block makes of them, and what it leaves in its memory."""
    *first, past = arguments
    left: list[Tensor] = []
    y = block(*first, Memory(past, lambda *pair: left.extend(pair)), None)
    return y, left


@torch.inference_mode()
@pytest.mark.parametrize(("rows", "tokens", "each"), [(1, 1, False), (2, 7, False), (2, 6, True)])
@pytest.mark.parametrize("kept", [(), ("to_k", "attn1.to_out.0", "ffn.net.2"), ("attn2.to_q", "ffn.net.0.proj")])
def test_a_fused_block_is_the_block(
    family: AnyFlowFAR, rows: int, tokens: int, each: bool, kept: tuple[str, ...]
) -> None:
    plain = quantised(family._forward.model, kept)
    fused = copy.deepcopy(plain)
    fuse_blocks(fused)
    arguments = inputs(rows, tokens, 48, each)
    (wanted, memory), (found, remembered) = (through(model.blocks[1], *arguments) for model in (plain, fused))
    high, _ = through(family._forward.model.blocks[1], *arguments)
    # A code that is rounded the other way is a step of 1/127 of its row's largest number; few are.
    assert torch.linalg.vector_norm(found - wanted) < 2e-3 * torch.linalg.vector_norm(wanted)
    for ours, its in zip(remembered, memory, strict=True):
        assert torch.linalg.vector_norm(ours - its) < 2e-3 * torch.linalg.vector_norm(its)
    error, plain_error = (torch.linalg.vector_norm(y - high) for y in (found, wanted))
    assert 0 < error < 1.1 * plain_error


@torch.inference_mode()
def test_a_whole_clip(family: AnyFlowFAR) -> None:
    """Text, memory, guidance and rows of several clips reach the blocks as they reach the plain ones."""
    high = family._forward.model
    velocities = []
    for fuse in (False, True):
        model = quantised(high)
        if fuse:
            fuse_blocks(model)
            assert all(isinstance(block, FusedBlock) for block in model.blocks)
        family._forward.model = model
        clip = family.open_clip(32, 32, family.encode_text("red", "blue"), 2.5, "int8")
        noise = torch.randn(1, 16, 2, 4, 4, generator=torch.Generator().manual_seed(0)).to(DEVICE)
        clip.append(noise)
        velocities.append(clip.denoise(noise, 1.0, 0.5))
    family._forward.model = high
    plain, fused = velocities
    assert torch.linalg.vector_norm(fused - plain) < 5e-3 * torch.linalg.vector_norm(plain)


@torch.inference_mode()
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, while it compiles
def test_compiling_leaves_it_as_it_is(family: AnyFlowFAR) -> None:
    model = quantised(family._forward.model)
    fuse_blocks(model)
    arguments = inputs(1, 3, 48, each=True)
    wanted, memory = through(model.blocks[0], *arguments)
    model.blocks[0].compile(dynamic=True)
    found, remembered = through(model.blocks[0], *arguments)
    assert torch.equal(found, wanted) and all(map(torch.equal, remembered, memory))


@pytest.mark.skipif(DEVICE.type == "cuda", reason="this machine has a GPU")
def test_a_cpu_keeps_the_plain_ones(causal_folder: Path) -> None:
    loaded = AnyFlowFAR("tiny", causal_folder, 1, DEVICE, torch.float32, LoadLevers("int8"))
    assert any(isinstance(part, Int8Linear) for part in loaded._forward.model.blocks.modules())
    assert not any(isinstance(part, FusedBlock) for part in loaded._forward.model.modules())


def test_names_stay() -> None:
    """Weights are kept by them."""
    block = nn.Module()
    block.first, block.scale_shift_table = nn.Linear(2, 2), nn.Parameter(torch.zeros(1, 6, 2))
    assert FusedBlock(block).state_dict().keys() == block.state_dict().keys()


def test_blocks_of_other_models_stay(family: AnyFlowFAR) -> None:
    wan = WanTransformer3DModel(num_attention_heads=2, attention_head_dim=12, ffn_dim=8, num_layers=1, text_dim=4)
    before = wan.blocks[0]
    fuse_blocks(wan)
    assert wan.blocks[0] is before
    bare = copy.deepcopy(family._forward.model)
    bare.blocks[0].norm2 = nn.Identity()
    fuse_blocks(bare)
    assert not isinstance(bare.blocks[0], FusedBlock) and isinstance(bare.blocks[1], FusedBlock)

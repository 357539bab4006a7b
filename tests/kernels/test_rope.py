from __future__ import annotations

import pytest
import torch
from diffusers.models.transformers import transformer_anyflow_far as stock

from videosvc_kernels import Rotation, rotate


def stock_frequencies(head_dim: int, frames: int, height: int, width: int, coarse: bool) -> torch.Tensor:
    rope = stock.AnyFlowCausalRotaryPosEmbed(head_dim, (1, 2, 2), (1, 4, 4), max_seq_len=1024)
    grid = rope._forward_compressed_frame if coarse else rope._forward_full_frame
    return grid(frames, height, width, torch.device("cpu")).flatten(0, 2)


@pytest.mark.parametrize("head_dim", [12, 24, 64, 128])
@pytest.mark.parametrize("coarse", [False, True])
def test_equals_the_complex128_rotation(head_dim: int, coarse: bool) -> None:
    frequencies = stock_frequencies(head_dim, frames=7, height=3, width=5, coarse=coarse)
    x = torch.randn(2, 3, 7 * 3 * 5, head_dim, generator=torch.Generator().manual_seed(0))
    ours = rotate(x, Rotation.of_frames(0, 7, 3, 5, head_dim, coarsening=2 if coarse else 1))
    torch.testing.assert_close(ours, stock.apply_rotary_emb(x, frequencies), atol=1e-6, rtol=1e-6)


def test_compiled_code_rotates_by_the_same_angles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without complex numbers, which compilers do not know."""
    x = torch.randn(2, 3, 7, 24, generator=torch.Generator().manual_seed(2))
    rotation = Rotation.of_rows([Rotation.of_frames(first, 7, 1, 1, 24) for first in (0, 5)])
    wanted = rotate(x, rotation)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(rotate(x, rotation), wanted, atol=1e-6, rtol=1e-6)


def test_starts_at_any_frame() -> None:
    whole = Rotation.of_frames(0, 1000, 2, 2, 24)
    late = Rotation.of_frames(997, 3, 2, 2, 24)
    torch.testing.assert_close(late.cos, whole.cos[997 * 4 :], atol=0, rtol=0)
    torch.testing.assert_close(late.sin, whole.sin[997 * 4 :], atol=0, rtol=0)


def test_only_distances_matter() -> None:
    generator = torch.Generator().manual_seed(1)
    query, key = torch.randn(2, 1, 1, 8, 24, generator=generator)

    def scores(first_frame: int) -> torch.Tensor:
        rotation = Rotation.of_frames(first_frame, 2, 2, 2, 24)
        return rotate(query, rotation) @ rotate(key, rotation).transpose(-1, -2)

    torch.testing.assert_close(scores(0), scores(5000), atol=1e-5, rtol=1e-5)


def test_keeps_the_type() -> None:
    x = torch.ones(1, 1, 4, 12, dtype=torch.bfloat16)
    assert rotate(x, Rotation.of_frames(0, 1, 2, 2, 12)).dtype == torch.bfloat16

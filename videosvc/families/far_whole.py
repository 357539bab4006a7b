"""The causal transformer's two forwards as modules of their own, so that each is compiled in one piece.

With what clips remember passed as tensors nothing breaks the code apart, and what calling it costs is paid once a
forward and not once a block, which for small models on a CPU is as much as the blocks compute.
"""

from __future__ import annotations

from torch import Tensor, nn

from videosvc.families.far_attention import KeyValue, Memory
from videosvc.families.far_forward import FarForward
from videosvc_kernels import Rotation

Past = tuple[KeyValue | None, ...]  # a layer's keys and values (B, H, L, D) of earlier chunks


class WholeStep(nn.Module):
    """A denoising step: latents `(B, C, T, h, w)` to their velocity."""

    def __init__(self, work: FarForward) -> None:
        super().__init__()
        self.work = work

    def forward(
        self, latents: Tensor, rotation: Rotation, scaled: Tensor, text: tuple[KeyValue, ...], past: Past
    ) -> Tensor:
        """`scaled`: of `FarForward.scaled`."""
        time = self.work.embed_time(scaled)
        hidden = self.work.hidden(latents, rotation, time, text, lambda layer: Memory(past[layer], None))
        return self.work.velocity(hidden, time, latents.shape)


class WholeEncoding(nn.Module):
    """A finished chunk `(B, C, T, h, w)` to each layer's keys and values of it."""

    def __init__(self, work: FarForward) -> None:
        super().__init__()
        self.work = work

    def forward(
        self, latents: Tensor, rotation: Rotation, scaled: Tensor, text: tuple[KeyValue, ...], past: Past
    ) -> tuple[KeyValue, ...]:
        kept: list[KeyValue] = []
        time = self.work.embed_time(scaled)
        self.work.hidden(latents, rotation, time, text, lambda layer: Memory(past[layer], kept))
        return tuple(kept)


class Whole:
    """Both, of one transformer."""

    def __init__(self, work: FarForward) -> None:
        self.step, self.encoding = WholeStep(work), WholeEncoding(work)

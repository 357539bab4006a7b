"""One forward of the causal transformer for several clips, each wherever it is: its own chunk, time and past.

Iteration-level batching with attention row by row (Orca, OSDI 2022): linear layers, norms and time embeddings, whose
weights are then read once, see one batch; self-attention goes to each clip's own cache, so nothing is masked.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from videosvc.families.base import Jump
from videosvc.families.far_attention import KeyValue, Memory
from videosvc.families.far_forward import FarForward
from videosvc_kernels import Rotation

if TYPE_CHECKING:
    from videosvc.families.far_clip import FarClip


class Together:
    """The clips of one model."""

    def __init__(self, forward: FarForward) -> None:
        self.forward = forward
        # Texts of the clips that were together last, joined: as long as they are, it is not done again.
        self._company: tuple[weakref.ref[FarClip], ...] = ()
        self._text: tuple[KeyValue, ...] = ()

    def denoise(self, jumps: Sequence[tuple[FarClip, Jump]]) -> list[Tensor]:
        """Each jump's mean velocity, `(1, C, T, h, w)`. A clip takes as many rows as it has prompts."""
        clips = [clip for clip, _ in jumps]
        rows = [clip.rows for clip in clips]
        latents = torch.cat([jump.latents.expand(clip.rows, -1, -1, -1, -1) for clip, jump in jumps])
        times = [(jump.t, jump.r) for clip, jump in jumps for _ in range(clip.rows)]
        forward = self.forward
        time = forward.time(*times)
        rotation = _rotation(clips, latents.shape)
        hidden = forward.hidden(latents, rotation, time, self._text_of(clips), _memory(clips, rows))
        velocities = forward.velocity(hidden, time, latents.shape).split(rows)
        return [
            clip.guided(velocity).to(jump.latents.dtype)
            for (clip, jump), velocity in zip(jumps, velocities, strict=True)
        ]

    def _text_of(self, clips: Sequence[FarClip]) -> tuple[KeyValue, ...]:
        if len(clips) == 1:
            return clips[0].text
        company = tuple(weakref.ref(clip, lambda _: self._part()) for clip in clips)
        if company != self._company:
            self._part()  # before the next take as much memory
            layers = zip(*(clip.text for clip in clips), strict=True)
            self._text = tuple((torch.cat([k for k, _ in each]), torch.cat([v for _, v in each])) for each in layers)
            self._company = company
        return self._text

    def _part(self) -> None:
        self._company, self._text = (), ()


def _rotation(clips: Sequence[FarClip], shape: torch.Size) -> Rotation:
    """Each row's own, also where they are the same: compiled blocks would be compiled once more for one of all rows."""
    return Rotation.of_rows([clip.rotation(shape) for clip in clips for _ in range(clip.rows)])


def _memory(clips: Sequence[FarClip], rows: list[int]) -> Callable[[int], Memory]:
    if all(clip.cache.chunks == 0 for clip in clips):
        return lambda layer: Memory(None, None)

    def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        parts = zip(*(x.split(rows) for x in (query, key, value)), strict=True)
        return torch.cat([clip.cache.attend(layer, *part) for clip, part in zip(clips, parts, strict=True)])

    return lambda layer: Memory(partial(attend, layer), None)

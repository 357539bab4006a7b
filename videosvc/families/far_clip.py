"""One clip on a causal AnyFlow transformer, against a rolling cache of its finished chunks.

FAR sees recent chunks in full and older ones through a coarser patch embedding. When a chunk ages out it is
encoded once more, coarsely, against the coarse chunks before it, which is exact. The full chunks that stay
keep the keys they have, though encoded anew they would now see the aged chunk coarsely; so past
`full_chunk_limit` chunks, and only there, this differs from the stock pipeline, which encodes the whole clip
anew after every chunk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from videosvc.families.base import Clip, Jump, TextEmbeds
from videosvc.families.clip_decoder import ClipDecoder
from videosvc.families.far_attention import Memory
from videosvc.families.far_together import Together
from videosvc_kernels import CacheCodec, FrameCache, Rotation

Keep = Callable[[int, Tensor, Tensor], None]


class FarClip(Clip):
    """A clip of any length; its memory is bounded by the cache's window.

    Under guidance (`guidance_scale` > 1) everything runs in batches of two: negative prompt, prompt.
    """

    def __init__(
        self,
        together: Together,
        decoder: ClipDecoder,
        text: TextEmbeds,
        guidance_scale: float,
        window_chunks: int | None,
        codec: CacheCodec | None = None,
        sink_chunks: int = 0,
    ) -> None:
        """`codec`: the frame cache's. `sink_chunks`: of the clip's start, held besides the window."""
        self._together = together
        self._forward = together.forward
        self._decoder = decoder
        self._guidance_scale = guidance_scale
        prompts = [text.prompt]
        if guidance_scale > 1.0:
            if text.negative is None:
                raise ValueError("guidance_scale: above 1 it needs a negative prompt, which may be empty")
            prompts = [text.negative, text.prompt]
        self.rows = len(prompts)
        self.text = self._forward.project_text(torch.cat(prompts))
        self.cache = FrameCache(self._forward.layers, window_chunks, codec, sink_chunks)
        self.next_frame = 0  # latent frames appended so far
        self._rotation: tuple[torch.Size, Rotation] | None = None  # of the chunk being denoised, by its (T, h, w)
        # Chunks the cache holds in full, oldest first: first frame and latents, to be encoded coarsely when
        # they age.
        self._full: deque[tuple[int, Tensor]] = deque()
        self._max_full = self._forward.model.config.full_chunk_limit - 1
        self._coarsens = window_chunks is None or sink_chunks + window_chunks > self._max_full

    def denoise(self, latents: Tensor, t: float, r: float) -> Tensor:
        return self._together.denoise([(self, Jump(self, latents, t, r))])[0]

    def rotation(self, shape: torch.Size) -> Rotation:
        """Where the tokens of latents of that shape are, in the chunk being denoised."""
        if self._rotation is None or self._rotation[0] != shape[2:]:
            self._rotation = (shape[2:], self._rotation_of(shape, self.next_frame))
        return self._rotation[1]

    def guided(self, velocity: Tensor) -> Tensor:
        """The clip's velocity from that of its rows."""
        if self.rows == 1:
            return velocity
        negative, positive = velocity.chunk(2)
        return negative + self._guidance_scale * (positive - negative)

    def append(self, latents: Tensor) -> None:
        self._make_room()
        if self._coarsens and len(self._full) == self._max_full:
            self._coarsen_oldest()
        self._encode(latents, self.next_frame, self.cache.append)
        if self._coarsens:
            self._full.append((self.next_frame, latents))
        self.next_frame += latents.shape[2]
        self._rotation = None

    def decode(self, latents: Tensor) -> Tensor:
        return self._decoder.decode(latents)

    def preview(self, latents: Tensor) -> Tensor:
        return self._decoder.preview(latents)

    @property
    def cache_bytes(self) -> int:
        """Bytes the frame cache holds."""
        return self.cache.bytes

    def _make_room(self) -> None:
        held = self.cache.chunks
        dropped = self.cache.make_room()
        # Coarse chunks come first. Behind sinks it may be one in full that has to go.
        if dropped is not None and (full := dropped - (held - len(self._full))) >= 0 and self._coarsens:
            del self._full[full]

    def _coarsen_oldest(self) -> None:
        """Puts the coarse version of the oldest chunk still held in full in its place."""
        chunk = self.cache.chunks - len(self._full)  # coarse chunks come first
        first_frame, latents = self._full.popleft()
        self._encode(
            latents,
            first_frame,
            lambda layer, key, value: self.cache.replace(layer, chunk, key, value),
            coarse_before=chunk,
        )

    def _encode(self, latents: Tensor, first_frame: int, keep: Keep, coarse_before: int | None = None) -> None:
        """Runs a finished chunk through the blocks at t = r = 0; each layer's keys and values go to `keep`.

        `coarse_before`: encode coarsely, seeing that many of the oldest chunks.
        """
        coarse = coarse_before is not None

        def memory(layer: int) -> Memory:
            return Memory(partial(self.cache.attend, layer, chunks=coarse_before), partial(keep, layer))

        self._forward.hidden(
            latents.expand(self.rows, -1, -1, -1, -1),
            Rotation.of_rows(self.rows * [self._rotation_of(latents.shape, first_frame, coarse)]),
            self._forward.time(*self.rows * [(0.0, 0.0)]),
            self.text,
            memory,
            coarse,
        )

    def _rotation_of(self, shape: torch.Size, first_frame: int, coarse: bool = False) -> Rotation:
        frames, height, width = shape[2:]
        return self._forward.rotation(first_frame, frames, height, width, coarse)

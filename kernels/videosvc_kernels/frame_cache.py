"""The rolling memory of finished chunks of frames: each layer's keys, already rotated by position, and values.

A finished chunk is encoded once, as its codec does, and read at every later step. Reading takes it piece by piece, so
what is kept in four bits is never all there in full precision at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from videosvc_kernels.cache_codec import CacheCodec, NativeCodec, Parts
from videosvc_kernels.partial_attention import Partial, merge, partial_attention
from videosvc_kernels.triton_refusal import triton_refusal

KeyValue = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class _Chunk:
    """One layer's part of a chunk, encoded."""

    keys: Parts
    values: Parts

    @property
    def tokens(self) -> int:
        return self.keys[0].shape[2]

    @property
    def bytes(self) -> int:
        return sum(part.nbytes for part in (*self.keys, *self.values))

    def cut(self, start: int, end: int) -> _Chunk:
        """A view of some of its tokens."""
        return _Chunk(tuple(p[:, :, start:end] for p in self.keys), tuple(p[:, :, start:end] for p in self.values))


class FrameCache:
    """Keys and values of the first `sink_chunks` and the last `window_chunks` finished chunks, or of all of them."""

    def __init__(
        self,
        num_layers: int,
        window_chunks: int | None,
        codec: CacheCodec | None = None,
        sink_chunks: int = 0,
        block_tokens: int = 1024,
    ) -> None:
        """`window_chunks`: None keeps all. `block_tokens`: the most that `attend` decodes at once."""
        if window_chunks is not None and window_chunks < 1:
            raise ValueError(f"window_chunks: {window_chunks} is not at least 1")
        self.window_chunks = window_chunks
        self._sink_chunks = sink_chunks
        self._codec = codec or NativeCodec()
        self._block_tokens = block_tokens
        self._layers: list[list[_Chunk]] = [[] for _ in range(num_layers)]  # chunks, oldest first

    @property
    def chunks(self) -> int:
        """Chunks every layer holds."""
        return min(len(held) for held in self._layers)

    @property
    def bytes(self) -> int:
        """Bytes of all keys and values held, as they are kept."""
        return sum(chunk.bytes for held in self._layers for chunk in held)

    def make_room(self) -> int | None:
        """Drops every layer's oldest chunk after the sinks if one more would not fit the window; returns its number.

        Called before a chunk is encoded, so that its keys and values come from no more than the window as well; in a
        model that looks back one chunk, what was generated two chunks ago leaves no trace.
        """
        if self.window_chunks is None or self.chunks < self._sink_chunks + self.window_chunks:
            return None
        for held in self._layers:
            del held[self._sink_chunks]
        return self._sink_chunks

    def append(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Adds the newest chunk, `(B, H, L, D)` each, to one layer; `make_room` comes before the first of a chunk."""
        self._layers[layer].append(self._encoded(key, value))

    def replace(self, layer: int, chunk: int, key: Tensor, value: Tensor) -> None:
        """Puts another version, usually coarser and shorter, in place of chunk `chunk` (0 = oldest held)."""
        held = self._layers[layer]
        if not 0 <= chunk < len(held):
            raise IndexError(f"chunk {chunk} of layer {layer}: {len(held)} held")
        held[chunk] = self._encoded(key, value)

    def context(self, layer: int, chunks: int | None = None, dtype: torch.dtype = torch.float32) -> KeyValue | None:
        """Keys and values `(B, H, L, D)` of the `chunks` oldest, or of all, in full; None if there are none."""
        held = self._layers[layer][:chunks]
        if not held:
            return None
        decoded = [self._decoded(chunk, dtype) for chunk in held]
        keys, values = (torch.cat(parts, dim=2) for parts in zip(*decoded, strict=True))
        return self._codec.unrotate(keys), self._codec.unrotate(values)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, chunks: int | None = None) -> Tensor:
        """What `query` sees in `key` and `value` and in the `chunks` oldest chunks, or in all: `(B, H, L, D)` each.

        Where chunks are kept as they came this is plain attention; elsewhere plain attention over `context` to within
        roundings: 1e-5 of the largest value in float32.
        """
        held = self._layers[layer][:chunks]
        if isinstance(self._codec, NativeCodec) and held:
            decoded = [self._decoded(chunk, key.dtype) for chunk in held]
            key, value = (torch.cat(parts, dim=2) for parts in zip(*decoded, (key, value), strict=True))
            held = []
        if not held:
            return F.scaled_dot_product_attention(query, key, value)
        past = reduce(merge, self._partials(self._codec.rotate(query), held))
        # Rotation is linear: what was summed up of all values is rotated back, once.
        past = Partial(self._codec.unrotate(past.output), past.weight)
        return merge(past, partial_attention(query, key, value)).output.to(query.dtype)

    def _encoded(self, key: Tensor, value: Tensor) -> _Chunk:
        return _Chunk(self._codec.encode(key), self._codec.encode(value))

    def _decoded(self, chunk: _Chunk, dtype: torch.dtype) -> KeyValue:
        return self._codec.decode(chunk.keys, dtype), self._codec.decode(chunk.values, dtype)

    def _blocks(self, held: list[_Chunk]) -> Iterator[_Chunk]:
        """The same tokens in pieces of no more than `block_tokens`: long chunks cut, short ones put together."""
        pieces = [
            chunk.cut(start, start + self._block_tokens)
            for chunk in held
            for start in range(0, chunk.tokens, self._block_tokens)
        ]
        while pieces:
            count = sum(total <= self._block_tokens for total in accumulate(piece.tokens for piece in pieces))
            yield _joined(pieces[:count])
            pieces = pieces[count:]

    def _partials(self, query: Tensor, held: list[_Chunk]) -> Iterator[Partial]:
        """Attention of rotated queries over some chunks, a piece at a time, still rotated."""
        if triton_refusal(query.device) is None:
            from videosvc_kernels.coded_attention import coded_attention

            yield from (coded_attention(query, chunk.keys, chunk.values, self._codec) for chunk in held)
        else:
            for block in self._blocks(held):
                yield partial_attention(query, *self._decoded(block, query.dtype))


def _joined(chunks: list[_Chunk]) -> _Chunk:
    """One after the other; a single one is not copied."""
    if len(chunks) == 1:
        return chunks[0]
    keys, values = (
        tuple(torch.cat(parts, dim=2) for parts in zip(*whole, strict=True))
        for whole in ([chunk.keys for chunk in chunks], [chunk.values for chunk in chunks])
    )
    return _Chunk(keys, values)

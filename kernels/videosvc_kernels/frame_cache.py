"""The rolling memory of finished chunks of frames: each layer's keys, already rotated, and values.

A finished chunk is written once and read at every later step, so the layout favours the reader: each layer's
chunks lie in one contiguous tensor, which is handed out as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor

KeyValue = tuple[Tensor, Tensor]


class FrameCache:
    """Keys and values of the last `window_chunks` finished chunks (of all of them if None)."""

    def __init__(self, num_layers: int, window_chunks: int | None) -> None:
        if window_chunks is not None and window_chunks < 1:
            raise ValueError(f"window_chunks: {window_chunks} is not at least 1")
        self.window_chunks = window_chunks
        self._stored: list[KeyValue | None] = [None] * num_layers
        self._lengths: list[list[int]] = [[] for _ in range(num_layers)]  # tokens of each chunk, oldest first

    @property
    def chunks(self) -> int:
        """Chunks every layer holds."""
        return min(len(lengths) for lengths in self._lengths)

    @property
    def bytes(self) -> int:
        """Bytes of all keys and values held."""
        return sum(part.nbytes for pair in self._stored if pair is not None for part in pair)

    def make_room(self) -> None:
        """Drops every layer's oldest chunk if one more would not fit the window.

        Called before a chunk is encoded, so that its keys and values come from no more than the window as well; in a
        model that looks back one chunk, what was generated two chunks ago leaves no trace.
        """
        if self.window_chunks is None or self.chunks < self.window_chunks:
            return
        for layer, lengths in enumerate(self._lengths):
            dropped = lengths.pop(0)
            stored = self._stored[layer]
            if stored is not None:
                keys, values = stored
                self._stored[layer] = (keys[:, :, dropped:], values[:, :, dropped:]) if lengths else None

    def append(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Adds the newest chunk, `(B, H, L, D)` each, to one layer; `make_room` comes before the first of a chunk."""
        self._lengths[layer].append(key.shape[2])
        stored = self._stored[layer]
        if stored is None:
            self._stored[layer] = (key.contiguous(), value.contiguous())
        else:
            keys, values = stored
            self._stored[layer] = (torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2))

    def replace(self, layer: int, chunk: int, key: Tensor, value: Tensor) -> None:
        """Puts another version, usually coarser and shorter, in place of chunk `chunk` (0 = oldest held)."""
        stored = self._stored[layer]
        lengths = self._lengths[layer]
        if stored is None or not 0 <= chunk < len(lengths):
            raise IndexError(f"chunk {chunk} of layer {layer}: {len(lengths)} held")
        start = sum(lengths[:chunk])
        end = start + lengths[chunk]
        keys, values = stored
        self._stored[layer] = (
            torch.cat([keys[:, :, :start], key, keys[:, :, end:]], dim=2),
            torch.cat([values[:, :, :start], value, values[:, :, end:]], dim=2),
        )
        lengths[chunk] = key.shape[2]

    def context(self, layer: int, chunks: int | None = None) -> KeyValue | None:
        """Keys and values `(B, H, L, D)` of the `chunks` oldest, or of all; None if there are none."""
        stored = self._stored[layer]
        if stored is None or chunks == 0:
            return None
        if chunks is None or chunks >= len(self._lengths[layer]):
            return stored
        keys, values = stored
        end = sum(self._lengths[layer][:chunks])
        return keys[:, :, :end], values[:, :, :end]

"""A clip's latents to frames: scaled as its autoencoder wants them, through one of its streams, to bytes on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from videosvc.families.decoder import DecoderStream, to_frames

Present = Callable[[], AbstractContextManager[None]]  # has what decodes on the device while it is entered


@dataclass(frozen=True, slots=True)
class LatentScale:
    """What an autoencoder's latents come to in the model's own scale: `(1, C, 1, 1, 1)`, in the autoencoder's type."""

    mean: Tensor
    std: Tensor

    @staticmethod
    def of(config: Any, device: torch.device, dtype: torch.dtype) -> LatentScale:
        """`config`: the autoencoder's."""
        statistics = torch.tensor([config.latents_mean, config.latents_std])
        return LatentScale(*statistics[:, None, :, None, None, None].to(device, dtype))

    def normalised(self, z: Tensor) -> Tensor:
        return (z - self.mean) / self.std

    def denormalised(self, latents: Tensor) -> Tensor:
        return latents.to(self.std.dtype) * self.std + self.mean


class ClipDecoder:
    """One clip's."""

    def __init__(
        self,
        stream: DecoderStream,
        scale: LatentScale,
        latent_by_latent: bool = False,
        decoding: Present = nullcontext,
        peeking: Present = nullcontext,
    ) -> None:
        """`latent_by_latent`: the frames of each leave the device before the next is decoded; the same ones.

        `decoding`, `peeking`: entered around what decodes, and around what gives previews.
        """
        self._stream = stream
        self._scale = scale
        self._latent_by_latent = latent_by_latent
        self._decoding, self._peeking = decoding, peeking

    def decode(self, latents: Tensor) -> Tensor:
        """The clip's next latents `(1, C, T', h, w)` to frames `(T, H, W, 3)`, uint8, on the CPU."""
        pieces = latents.split(1, dim=2) if self._latent_by_latent else (latents,)
        with self._decoding():
            return torch.cat([to_frames(self._stream.decode(self._scale.denormalised(piece))) for piece in pieces])

    @torch.inference_mode()  # its caller stands outside the loop, which has that mode on
    def preview(self, latents: Tensor) -> Tensor:
        """The last frame `(H, W, 3)`, uint8, on the CPU, of the first latent's. Changes no state."""
        with self._peeking():
            return to_frames(self._stream.peek(self._scale.denormalised(latents)))[-1]

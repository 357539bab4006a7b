"""Causal autoencoders as streams: latents in, frames out, chunk by chunk.

Each stream owns its state, so that several clips may be open on one autoencoder, and a clip's memory does not
grow with its length. Wan's decoder gives, bit for bit, what decoding the whole clip at once gives; the bundled one
does so to 1e-6, as oneDNN's sums depend on how many latents come at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from videosvc.errors import GenerationError
from videosvc.families.config_checks import check_autoencoder
from videosvc_kernels import blend, spans

if TYPE_CHECKING:
    from videosvc.families.causal_autoencoder import CausalConvAutoencoder, DecoderState


class DecoderStream(ABC):
    """One clip's way through a decoder."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """The next latents `(B, z_dim, T, h, w)`, not normalised, to frames `(B, 3, T', H, W)` in [-1, 1]."""

    @abstractmethod
    def peek(self, z: Tensor) -> Tensor:
        """The frames that `decode` would give for the first latent of `z`, which is then still to be decoded."""


class WanStream(DecoderStream):
    """diffusers' `AutoencoderKLWan`: the first latent gives one frame, each later one four."""

    def __init__(self, vae: Any) -> None:
        self._vae = vae
        # What `vae.decode` keeps on the model itself; the decoder takes it as an argument.
        self._features: list[Any] = [None] * vae._cached_conv_counts["decoder"]
        self._at_start = True

    def decode(self, z: Tensor) -> Tensor:
        frames: list[Tensor] = []
        for latent in self._vae.post_quant_conv(z).split(1, dim=2):
            frames.append(self._decode_latent(latent, self._features))
            self._at_start = False
        return self._finish(torch.cat(frames, dim=2))

    def peek(self, z: Tensor) -> Tensor:
        # The decoder puts new tensors into the list and never writes to those in it.
        features = list(self._features)
        return self._finish(self._decode_latent(self._vae.post_quant_conv(z[:, :, :1]), features))

    def _decode_latent(self, latent: Tensor, features: list[Any]) -> Tensor:
        frames: Tensor = self._vae.decoder(latent, feat_cache=features, feat_idx=[0], first_chunk=self._at_start)
        return frames

    def _finish(self, video: Tensor) -> Tensor:
        vae = self._vae
        if vae.config.patch_size is not None:
            from diffusers.models.autoencoders import autoencoder_kl_wan

            video = autoencoder_kl_wan.unpatchify(video, patch_size=vae.config.patch_size)
        return video.clamp(-1.0, 1.0)


class CausalConvStream(DecoderStream):
    """The bundled model's autoencoder, and tiny decoders: every latent gives four frames."""

    def __init__(self, vae: CausalConvAutoencoder, skipped: int = 0) -> None:
        """`skipped`: frames at the clip's start that are not given out, if it stands in for a decoder without them."""
        self._vae = vae
        self._skipped = skipped
        self._state: DecoderState | None = None

    def decode(self, z: Tensor) -> Tensor:
        video, state = self._video(z)
        self._state = state
        return video

    def peek(self, z: Tensor) -> Tensor:
        return self._video(z[:, :, :1])[0]

    def _video(self, z: Tensor) -> tuple[Tensor, DecoderState]:
        video, state = self._vae.decode_chunk(z, self._state)
        return video[:, :, self._skipped if self._state is None else 0 :].clamp(-1.0, 1.0), state


class GlancedStream(DecoderStream):
    """Another decoder's frames; a tiny one's to peek at, which is given the latents before when it is asked."""

    def __init__(self, stream: DecoderStream, tiny: CausalConvAutoencoder) -> None:
        from videosvc.families.causal_autoencoder import MEMORY

        self._stream, self._tiny, self._memory = stream, tiny, MEMORY
        self._before: tuple[Tensor, ...] = ()

    def decode(self, z: Tensor) -> Tensor:
        self._before = (*self._before, *z.split(1, dim=2))[-self._memory :]
        return self._stream.decode(z)

    def peek(self, z: Tensor) -> Tensor:
        video, _ = self._tiny.decode_chunk(torch.cat((*self._before, z[:, :, :1]), dim=2), None)
        return video[:, :, -self._tiny.config.scale_factor_temporal :].clamp(-1.0, 1.0)


class TiledStream(DecoderStream):
    """Frames in overlapping tiles, each of which is a stream of its own: what a decoder computes at once is bounded.

    What it remembers from chunk to chunk is not: the states of all tiles are those of the frame, and of overlaps twice.

    What a tile does not see beyond its edges makes it differ from the frame decoded whole; for Wan's decoder, whose
    middle block attends to all it is given, not only near them.
    """

    def __init__(self, open_stream: Callable[[], DecoderStream], tile: int, overlap: int, spatial: int) -> None:
        """`tile`, `overlap`: latents; `spatial`: pixels that a latent stands for, along a side."""
        self._open = open_stream
        self._tile, self._overlap = tile, overlap
        self._seam = overlap * spatial
        self._streams: dict[tuple[int, int], DecoderStream] = {}  # by row and column

    def decode(self, z: Tensor) -> Tensor:
        return self._joined(z, lambda stream, part: stream.decode(part))

    def peek(self, z: Tensor) -> Tensor:
        return self._joined(z, lambda stream, part: stream.peek(part))

    def _joined(self, z: Tensor, frames_of: Callable[[DecoderStream, Tensor], Tensor]) -> Tensor:
        rows, columns = (spans(side, self._tile, self._overlap) for side in z.shape[-2:])
        places = [(row, column) for row in range(len(rows)) for column in range(len(columns))]
        self._streams = self._streams or {place: self._open() for place in places}

        def strip(row: int) -> Tensor:
            parts = (z[..., rows[row], column] for column in columns)
            frames = (frames_of(self._streams[row, column], part) for column, part in enumerate(parts))
            return blend(frames, self._seam, -1)

        return blend(map(strip, range(len(rows))), self._seam, -2)


def open_stream(vae: Any) -> DecoderStream:
    """A clip's way through `vae`, of a class that `autoencoder_class` knows."""
    from videosvc.families.causal_autoencoder import CausalConvAutoencoder

    return CausalConvStream(vae) if isinstance(vae, CausalConvAutoencoder) else WanStream(vae)


def autoencoder_class(model: str, name: object) -> Any:
    """By the `_class_name` of `vae/config.json`. Raises ModelError naming those that there are."""
    check_autoencoder(model, name)
    if name == "CausalConvAutoencoder":
        from videosvc.families.causal_autoencoder import CausalConvAutoencoder

        return CausalConvAutoencoder
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan


def to_frames(video: Tensor) -> Tensor:
    """`(1, 3, T, H, W)` in [-1, 1] to `(T, H, W, 3)` uint8 on the CPU. Raises GenerationError if it is not finite."""
    if not video.isfinite().all():
        raise GenerationError("decoding: the pictures are not finite")
    pixels = ((video[0].float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return pixels.permute(1, 2, 3, 0).contiguous().cpu()

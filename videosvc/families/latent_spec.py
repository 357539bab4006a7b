"""How a model cuts a clip up: known from its configuration, before anything heavy is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from videosvc.errors import UserError

# What diffusers' AutoencoderKLWan takes where an older configuration does not say.
WAN_SPATIAL, WAN_TEMPORAL = 8, 4
MEASURED_LATENTS = 4  # by which clips of a model without chunks grow when a device is calibrated with them
# By autoencoder: latents a side of a tile, and how many of them neighbours share.
TILES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "AutoencoderKLWan": (32, 8),  # as diffusers has it
        # 128x128 in 2x2 tiles. What they lack beyond their edges makes 0.9 to 1.0 levels of 255 (rms; 11 to 13 at most)
        # of difference on drawn clips; an overlap of 8 halves that for 1.4 times the pixels, one of 2 doubles it.
        "CausalConvAutoencoder": (12, 4),
    }
)


@dataclass(frozen=True, slots=True)
class LatentSpec:
    """How a model cuts a clip into latents and chunks.

    A latent stands for `temporal` frames, the first one for `first_frames`, and for squares of `spatial`
    pixels a side.
    """

    channels: int
    spatial: int
    temporal: int
    first_frames: int  # 1 for Wan's autoencoder, `temporal` for the bundled one
    first_chunk: int  # latents in the first chunk: 1 in the published AnyFlow-FAR checkpoints
    chunk: int  # latents in each later chunk
    short_last_chunk: bool  # whether the model was trained to end on a chunk shorter than that
    grid: int  # width and height in pixels must be multiples of this
    tile: int = 32  # most latents a side that `decode = "tiled"` decodes at once
    tile_overlap: int = 8  # latents that neighbouring tiles share
    whole: bool = False  # a clip is one chunk, whatever its length: every frame attends to every other

    def chunks(self, frames: int, from_picture: bool = False) -> tuple[int, ...]:
        """Latents of each chunk, enough to cover `frames`; what they decode to beyond that is trimmed.

        `from_picture`: they follow a first chunk that a picture makes, of which one frame, the last, is shown.
        """
        if from_picture:
            left = max(1, -(-(frames - 1) // self.temporal))
        else:
            left = 1 + max(0, -(-(frames - self.first_frames) // self.temporal))
        if self.whole:
            return (left,)
        sizes: list[int] = []
        while left > 0:
            size = self.chunk if sizes or from_picture else self.first_chunk
            sizes.append(min(size, left) if self.short_last_chunk else size)
            left -= size
        return tuple(sizes)

    @property
    def takes_picture(self) -> bool:
        """Whether a picture can make the first chunk. Not where there is no chunk after it to be denoised.

        Where the first latent stands for one frame (Wan's autoencoder), the frames after it would have to be known as
        well if more latents than that were in the chunk; where all latents are alike, it is held still for them.
        """
        return not self.whole and (self.first_chunk == 1 or self.first_frames == self.temporal)

    def frames_of(self, first_latent: int, latents: int) -> int:
        """Frames that `latents` latents from number `first_latent` of the clip on decode to."""
        if latents == 0:
            return 0
        return latents * self.temporal - (self.temporal - self.first_frames if first_latent == 0 else 0)

    def tiles(self, side: int) -> tuple[int, int]:
        """Tiles along a side of `side` latents, and latents in all of them, as `videosvc_kernels.spans` lays them."""
        count = 1 if side <= self.tile else -(-(side - self.tile_overlap) // (self.tile - self.tile_overlap))
        return count, side + (count - 1) * self.tile_overlap

    def check_size(self, width: int, height: int) -> None:
        """In pixels. Raises UserError (size) if they are off the grid."""
        if width % self.grid or height % self.grid:
            message = f"size: {width}x{height}: width and height must be multiples of {self.grid} for this model"
            raise UserError(message, param="size")

    @staticmethod
    def of(transformer: Mapping[str, Any], vae: Mapping[str, Any]) -> LatentSpec:
        """From the two configurations of a folder of either family. Raises KeyError if one lacks what counts."""
        bidirectional = transformer["_class_name"] == "WanTransformer3DModel"
        return (LatentSpec.of_wan if bidirectional else LatentSpec.of_anyflow)(transformer, vae)

    @staticmethod
    def of_wan(transformer: Mapping[str, Any], vae: Mapping[str, Any]) -> LatentSpec:
        """From the two configurations of a bidirectional Wan folder. Raises KeyError if one lacks what counts."""
        spatial = vae.get("scale_factor_spatial") or WAN_SPATIAL
        return LatentSpec(
            channels=transformer["in_channels"],
            spatial=spatial,
            temporal=vae.get("scale_factor_temporal") or WAN_TEMPORAL,
            first_frames=1,
            first_chunk=1,
            chunk=MEASURED_LATENTS,
            short_last_chunk=True,
            grid=spatial * transformer["patch_size"][1],
            whole=True,
        )

    @staticmethod
    def of_anyflow(transformer: Mapping[str, Any], vae: Mapping[str, Any]) -> LatentSpec:
        """From the two configurations of an AnyFlow-FAR folder; the chunks are those it was trained on.

        Raises KeyError if one of them lacks what counts.
        """
        partition = transformer["chunk_partition"]
        spatial = vae.get("scale_factor_spatial") or WAN_SPATIAL
        temporal = vae.get("scale_factor_temporal") or WAN_TEMPORAL
        chunk = max(partition)
        tile, overlap = TILES[vae["_class_name"]]
        return LatentSpec(
            channels=transformer["in_channels"],
            spatial=spatial,
            temporal=temporal,
            first_frames=temporal if vae["_class_name"] == "CausalConvAutoencoder" else 1,
            first_chunk=partition[0],
            chunk=chunk,
            short_last_chunk=partition[-1] < chunk,
            grid=spatial * transformer["patch_size"][1],
            tile=tile,
            tile_overlap=overlap,
        )

"""What a model's clips are decoded with: its own autoencoder, and a tiny decoder if its folder has one."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from videosvc.errors import ModelError
from videosvc.families.checks import TINY_DECODER, tiny_decoder_refusal
from videosvc.families.clip_decoder import ClipDecoder, LatentScale, Present
from videosvc.families.components import Components
from videosvc.families.decoder import CausalConvStream, DecoderStream, GlancedStream, TiledStream, open_stream
from videosvc.families.latent_spec import LatentSpec

if TYPE_CHECKING:
    from videosvc.families.causal_autoencoder import CausalConvAutoencoder


@dataclass(frozen=True, slots=True)
class Decoders:
    """Of one model, for all its clips."""

    vae: Any  # of a class that `autoencoder_class` knows
    spec: LatentSpec
    scale: LatentScale
    tiny: CausalConvAutoencoder | None
    refusal: str | None  # why there is no tiny one
    present: Present = nullcontext  # has the autoencoder on the device while it is entered

    @staticmethod
    def of(components: Components, vae: Any, spec: LatentSpec, present: Present = nullcontext) -> Decoders:
        """Raises ModelError if the folder's tiny decoder is damaged, or another model's."""
        refusal = tiny_decoder_refusal(components.model, components.folder)
        tiny = None if refusal else _load_tiny(components, spec)
        scale = LatentScale.of(vae.config, components.device, components.dtype)
        return Decoders(vae, spec, scale, tiny, refusal, present)

    def open(self, decode: str) -> ClipDecoder:
        """A clip's way through them. `decode`: the lever. Raises ModelError if it cannot be."""
        spec = self.spec
        latent_by_latent = spec.whole and decode != "full"  # a chunk that is the whole clip
        if decode == "tiny":
            if self.tiny is None:
                raise ModelError(str(self.refusal), param="levers")
            tiny = CausalConvStream(self.tiny, skipped=spec.temporal - spec.first_frames)
            return ClipDecoder(tiny, self.scale, latent_by_latent)
        stream: DecoderStream = open_stream(self.vae)
        if decode == "tiled":
            stream = TiledStream(partial(open_stream, self.vae), spec.tile, spec.tile_overlap, spec.spatial)
        if self.tiny is None:
            return ClipDecoder(stream, self.scale, latent_by_latent, self.present, self.present)
        return ClipDecoder(GlancedStream(stream, self.tiny), self.scale, latent_by_latent, self.present)


def _load_tiny(components: Components, spec: LatentSpec) -> CausalConvAutoencoder:
    from videosvc.families.causal_autoencoder import CausalConvAutoencoder

    tiny: CausalConvAutoencoder = components.load(CausalConvAutoencoder, TINY_DECODER)
    config = tiny.config
    found = config.z_dim, config.scale_factor_spatial, config.scale_factor_temporal
    if found != (spec.channels, spec.spatial, spec.temporal):
        line = f"model {components.model!r}: {TINY_DECODER}/config.json: it decodes latents of another kind of model"
        raise ModelError(line, param="model")
    return tiny

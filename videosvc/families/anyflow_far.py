"""The causal AnyFlow family: the bundled model and the published AnyFlow-FAR-Wan2.1 checkpoints alike.

A folder in diffusers' format, unchanged: `model_index.json`, `transformer/`, `text_encoder/`, `tokenizer/`,
`vae/`, `scheduler/`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from videosvc.config.levers import refusal
from videosvc.errors import ModelError
from videosvc.families.base import Clip, Family, Jump, TextEmbeds
from videosvc.families.block_levers import check_levers, pull_levers
from videosvc.families.checks import files_stamp, model_hash, read_json, schedule_shift, weight_files
from videosvc.families.clip_decoder import Present
from videosvc.families.components import Components
from videosvc.families.decoder import autoencoder_class
from videosvc.families.decoders import Decoders
from videosvc.families.far_checks import check_full_chunk_limit
from videosvc.families.far_clip import FarClip
from videosvc.families.far_codecs import codec_refusal, far_codecs
from videosvc.families.far_forward import FarForward
from videosvc.families.far_together import Together
from videosvc.families.latent_spec import LatentSpec
from videosvc.families.load_levers import NO_LEVERS, LoadLevers
from videosvc.families.offload import check_offload, decoder_while, encoder_on_call, picture_encoder_while
from videosvc.families.prompt_encoder import PromptEncoder
from videosvc_kernels import use_onednn

if TYPE_CHECKING:
    from videosvc.families.step_cache import StepCache


class AnyFlowFAR(Family):
    """A loaded AnyFlow-FAR checkpoint."""

    def __init__(
        self,
        name: str,
        folder: Path,
        window_chunks: int | None,
        device: torch.device,
        dtype: torch.dtype,
        levers: LoadLevers = NO_LEVERS,
        kept: Path | None = None,
        sink_chunks: int = 0,
        offload: Collection[str] = (),
    ) -> None:
        """Loads `folder`. `kept`: a folder to keep quantised weights in; `window_chunks`, `sink_chunks`: see FarClip.

        `offload`: of text_encoder and vae, those that are kept on the CPU but while they encode and decode.
        Raises ModelError naming the file that is missing, damaged or unfit, or the lever and why it cannot be.
        """
        from diffusers import AnyFlowFARTransformer3DModel
        from transformers import UMT5EncoderModel

        check_levers(name, "anyflow_far", levers, device)
        self.name = name
        self.device = device
        self.dtype = dtype
        self.window_chunks, self.sink_chunks = window_chunks, sink_chunks
        read_json(name, folder, "model_index.json")
        check_full_chunk_limit(name, folder)
        vae_kind = read_json(name, folder, "vae/config.json").get("_class_name")
        check_offload(name, offload, str(vae_kind), device)
        files = [
            *weight_files(name, folder, "transformer", "diffusers"),
            *weight_files(name, folder, "vae", "diffusers"),
            *weight_files(name, folder, "text_encoder", "transformers"),
        ]
        self.model_hash = model_hash(folder, files)
        self.shift = schedule_shift(name, folder)
        components = Components(name, folder, device, dtype)
        transformer = components.load(AnyFlowFARTransformer3DModel, "transformer")
        away = replace(components, device=torch.device("cpu"))
        self._vae = (away if "vae" in offload else components).load(autoencoder_class(name, vae_kind), "vae")
        if (device.type, dtype) == ("cpu", torch.float32):  # bfloat16 goes through oneDNN anyway, where it can
            use_onednn(self._vae)
        encoder = (away if "text_encoder" in offload else components).load(UMT5EncoderModel, "text_encoder")
        on_call = encoder_on_call(encoder, device) if "text_encoder" in offload else (encoder,)
        self._prompts = PromptEncoder(components.tokenizer(), *on_call)
        self.transformer = transformer
        self._forward = FarForward(transformer)
        self._together = Together(self._forward)
        self.spec = LatentSpec.of_anyflow(transformer.config, self._vae.config)
        self._encoding: Present = picture_encoder_while(self._vae, device) if "vae" in offload else nullcontext
        decoding = decoder_while(self._vae, device) if "vae" in offload else nullcontext
        self._decoders = Decoders.of(components, self._vae, self.spec, decoding)
        head_dim = transformer.config.attention_head_dim
        self._codecs = far_codecs(head_dim, device)
        # Tried now: on a GPU this compiles what the first clip would wait for.
        self._codec_refusals = {codec: codec_refusal(codec, head_dim, device, dtype) for codec in self._codecs}
        self.levers = levers
        pull_levers(name, transformer, levers, self._trial, self._warm_up, self.model_hash, files_stamp(files), kept)

    def encode_text(self, prompt: str, negative_prompt: str | None) -> TextEmbeds:
        return self._prompts.encode(prompt, negative_prompt)

    def encode_picture(self, pixels: Tensor) -> Tensor:
        """Wan's autoencoder makes one latent of one frame; the bundled one gets as many frames as a chunk has."""
        if not self.spec.takes_picture:
            return super().encode_picture(pixels)
        from videosvc.families.causal_autoencoder import CausalConvAutoencoder

        frame = pixels.to(self.device, self.dtype).permute(2, 0, 1)[None, :, None] / 127.5 - 1.0  # (1, 3, 1, H, W)
        if isinstance(self._vae, CausalConvAutoencoder):
            encoded = self._vae.encode(frame.expand(-1, -1, self.spec.frames_of(0, self.spec.first_chunk), -1, -1))
        else:
            with self._encoding():
                encoded = self._vae.encode(frame).latent_dist.mode()
        return self._decoders.scale.normalised(encoded).float()

    def open_clip(
        self,
        width: int,
        height: int,
        text: TextEmbeds,
        guidance_scale: float,
        frame_cache: str = "native",
        decode: str = "stream",
        step_cache: StepCache | None = None,
    ) -> Clip:
        cached = "none" if step_cache is None else step_cache.name
        for lever, value in (("frame_cache", frame_cache), ("decode", decode), ("step_cache", cached)):
            if line := refusal("anyflow_far", lever, value):
                raise ModelError(f"model {self.name!r}: {line}", param="levers")
        if line := self._codec_refusals[frame_cache]:
            raise ModelError(f"model {self.name!r}: {line}", param="levers")
        self.spec.check_size(width, height)
        return FarClip(
            self._together,
            self._decoders.open(decode),
            text,
            guidance_scale,
            self.window_chunks,
            self._codecs[frame_cache],
            self.sink_chunks,
        )

    def denoise_together(self, jumps: Sequence[Jump]) -> list[Tensor]:
        return self._together.denoise([(jump.clip, jump) for jump in jumps if isinstance(jump.clip, FarClip)])

    def _warm_up(self) -> None:
        """Everything that the blocks are compiled for: short and long chunks, one row and two."""
        for units in (4, 8):
            for guidance_scale in (1.0, 2.0):
                self._trial(units, guidance_scale)

    @torch.inference_mode()
    def _trial(self, units: int = 4, guidance_scale: float = 1.0) -> Tensor:
        """Velocities of a first chunk, all noise, and of a second, half of it: the same at every call.

        Of a square clip, `units` times the grid a side.
        """
        spec, side = self.spec, units * self.spec.grid
        clip = self.open_clip(side, side, self.encode_text("", ""), guidance_scale)
        generator = torch.Generator().manual_seed(0)
        shapes = [(1, spec.channels, t, side // spec.spatial, side // spec.spatial) for t in spec.chunks(1000)[:2]]
        first, second = (torch.randn(shape, generator=generator).to(self.device) for shape in shapes)
        velocity = clip.denoise(first, 1.0, 0.5)
        clip.append(first - velocity)
        return torch.cat([velocity.flatten(), clip.denoise(second, 0.5, 0.0).flatten()])

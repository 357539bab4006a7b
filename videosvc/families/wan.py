"""The bidirectional Wan family: text-to-video checkpoints such as Wan2.1-T2V-1.3B, and their few-step distillations.

A folder in diffusers' format, unchanged, with a `WanTransformer3DModel` and an `AutoencoderKLWan`. Every frame
attends to every other, so a clip is one chunk; the model knows velocities, not jumps.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from videosvc.config.levers import refusal, step_cache_refusal
from videosvc.errors import ModelError
from videosvc.families.attention_backend import set_attention
from videosvc.families.base import Clip, Family, TextEmbeds
from videosvc.families.block_levers import check_levers, pull_levers
from videosvc.families.checks import files_stamp, model_hash, schedule_shift, weight_files
from videosvc.families.components import Components
from videosvc.families.decoder import autoencoder_class
from videosvc.families.decoders import Decoders
from videosvc.families.latent_spec import LatentSpec
from videosvc.families.load_levers import NO_LEVERS, LoadLevers
from videosvc.families.offload import check_offload, decoder_while, encoder_on_call
from videosvc.families.prompt_encoder import PromptEncoder
from videosvc.families.step_cache import CachedTransformer, StepCache
from videosvc.families.wan_checks import check_text_to_video
from videosvc.families.wan_clip import WanClip
from videosvc_kernels import use_onednn


class Wan(Family):
    """A loaded Wan checkpoint."""

    knows_jumps = False

    def __init__(
        self,
        name: str,
        folder: Path,
        device: torch.device,
        dtype: torch.dtype,
        levers: LoadLevers = NO_LEVERS,
        kept: Path | None = None,
        attention: str = "native",
        offload: Collection[str] = (),
        mag_ratios: Sequence[float] = (),
    ) -> None:
        """Loads `folder`. `kept`: a folder to keep quantised weights in; `attention`: one of `BACKENDS`.

        `offload`: of text_encoder and vae, those that are kept on the CPU but while they encode and decode.
        `mag_ratios`: how the blocks' residual grows from step to step in this checkpoint, which MagCache needs to know.
        Raises ModelError naming the file that is missing, damaged or unfit, or the lever and why it cannot be.
        """
        from diffusers import WanTransformer3DModel
        from transformers import UMT5EncoderModel

        check_levers(name, "wan", levers, device)
        check_offload(name, offload, "AutoencoderKLWan", device)
        check_text_to_video(name, folder)
        self.name = name
        self.device = device
        self.dtype = dtype
        files = [
            *weight_files(name, folder, "transformer", "diffusers"),
            *weight_files(name, folder, "vae", "diffusers"),
            *weight_files(name, folder, "text_encoder", "transformers"),
        ]
        self.model_hash = model_hash(folder, files)
        self.shift = schedule_shift(name, folder)
        components = Components(name, folder, device, dtype)
        self.transformer = components.load(WanTransformer3DModel, "transformer")
        self.attend_by(attention)
        away = replace(components, device=torch.device("cpu"))
        vae_class = autoencoder_class(name, "AutoencoderKLWan")
        self._vae = (away if "vae" in offload else components).load(vae_class, "vae")
        if (device.type, dtype) == ("cpu", torch.float32):  # bfloat16 goes through oneDNN anyway, where it can
            use_onednn(self._vae)
        encoder = (away if "text_encoder" in offload else components).load(UMT5EncoderModel, "text_encoder")
        on_call = encoder_on_call(encoder, device) if "text_encoder" in offload else (encoder,)
        self._prompts = PromptEncoder(components.tokenizer(), *on_call)
        self.spec = LatentSpec.of_wan(self.transformer.config, self._vae.config)
        present = decoder_while(self._vae, device) if "vae" in offload else nullcontext
        self._decoders = Decoders.of(components, self._vae, self.spec, present)
        self._mag_ratios = tuple(mag_ratios)
        self.levers = levers
        pull_levers(
            name, self.transformer, levers, self._trial, self._warm_up, self.model_hash, files_stamp(files), kept
        )

    def attend_by(self, backend: str) -> None:
        """From the next forward on. `backend`: one of `BACKENDS`. Raises ModelError if it cannot be."""
        set_attention(self.name, self.transformer, backend, self.device)

    def encode_text(self, prompt: str, negative_prompt: str | None) -> TextEmbeds:
        return self._prompts.encode(prompt, negative_prompt)

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
        names = {"frame_cache": frame_cache, "decode": decode, "step_cache": step_cache.name if step_cache else "none"}
        lines = [refusal("wan", lever, value) for lever, value in names.items()]
        lines.append(step_cache_refusal(names["step_cache"], self._mag_ratios, self.levers.compile))
        if line := next(filter(None, lines), None):
            raise ModelError(f"model {self.name!r}: {line}", param="levers")
        self.spec.check_size(width, height)
        cached = CachedTransformer(self.transformer, step_cache, self._mag_ratios) if step_cache else None
        return WanClip(self.transformer, cached, self._decoders.open(decode), text, guidance_scale, self.dtype)

    def _warm_up(self) -> None:
        """Everything that the blocks are compiled for: short and long clips."""
        for units in (4, 8):
            self._trial(units)

    @torch.inference_mode()
    def _trial(self, units: int = 4) -> Tensor:
        """Velocities of a short square clip, `units` times the grid a side, early and late: the same at every call."""
        spec, side = self.spec, units * self.spec.grid
        clip = self.open_clip(side, side, self.encode_text("", None), 1.0)
        shape = (1, spec.channels, 2, side // spec.spatial, side // spec.spatial)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        velocity = clip.denoise(noise, 1.0, 1.0)
        later = clip.denoise(noise - 0.5 * velocity, 0.5, 0.5)
        return torch.cat([velocity.flatten(), later.flatten()])

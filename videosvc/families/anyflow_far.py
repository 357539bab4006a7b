"""The causal AnyFlow family: the bundled model and the published AnyFlow-FAR-Wan2.1 checkpoints alike.

A folder in diffusers' format, unchanged: `model_index.json`, `transformer/`, `text_encoder/`, `tokenizer/`,
`vae/`, `scheduler/`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from videosvc.config.levers import refusal
from videosvc.errors import ModelError
from videosvc.families.base import Clip, Family, Jump, TextEmbeds
from videosvc.families.checks import model_hash, read_json, weight_files
from videosvc.families.compiled_blocks import compile_blocks, compile_refusal
from videosvc.families.decoder import CausalConvStream, DecoderStream, TiledStream, WanStream
from videosvc.families.far_clip import FarClip
from videosvc.families.far_forward import FarForward
from videosvc.families.far_together import Together
from videosvc.families.int8_weights import TOLERANCE, quantize_blocks
from videosvc.families.latent_spec import LatentSpec
from videosvc.families.prompt_encoder import PromptEncoder
from videosvc_kernels import Int4Codec, Int8Codec, NativeCodec, bfloat16_refusal, int8_refusal, use_onednn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class AnyFlowFAR(Family):
    """A loaded AnyFlow-FAR checkpoint."""

    def __init__(
        self,
        name: str,
        folder: Path,
        window_chunks: int | None,
        device: torch.device,
        dtype: torch.dtype,
        weights: str = "native",
        quantized: Path | None = None,
        compiled: bool = False,
    ) -> None:
        """Loads `folder`. `weights`, `compiled`: the levers; `quantized`: a folder to keep quantised weights in.

        Raises ModelError naming the file that is missing, damaged or unfit, or the lever and why it cannot be.
        """
        from diffusers import AnyFlowFARTransformer3DModel
        from transformers import UMT5EncoderModel

        line = refusal("anyflow_far", "weights", weights)
        if line is None and weights == "bf16" and (reason := bfloat16_refusal(device)):
            line = f"lever weights='bf16' cannot be: {reason}"
        if line is None and weights == "int8" and (reason := int8_refusal(device)):
            line = f"lever weights='int8' cannot be: {reason}"
        if line is None and compiled and (reason := compile_refusal(device)):
            line = f"lever compile=true cannot be: {reason}"
        if line is not None:
            raise ModelError(f"model {name!r}: {line}", param="levers")
        self.name = name
        self.device = device
        self.dtype = dtype
        self.window_chunks = window_chunks
        read_json(name, folder, "model_index.json")
        files = [
            *weight_files(name, folder, "transformer", "diffusers"),
            *weight_files(name, folder, "vae", "diffusers"),
            *weight_files(name, folder, "text_encoder", "transformers"),
        ]
        self.model_hash = model_hash(folder, files)
        self.shift = float(read_json(name, folder, "scheduler/scheduler_config.json").get("shift", 1.0))
        transformer = self._load(AnyFlowFARTransformer3DModel, folder / "transformer")
        self._vae = self._load(self._autoencoder_class(folder), folder / "vae")
        if (device.type, dtype) == ("cpu", torch.float32):  # bfloat16 goes through oneDNN anyway, where it can
            use_onednn(self._vae)
        self._prompts = PromptEncoder(
            self._load_tokenizer(folder / "tokenizer"), self._load(UMT5EncoderModel, folder / "text_encoder")
        )
        self._forward = FarForward(transformer)
        self._together = Together(self._forward)
        self.spec = LatentSpec.of_anyflow(transformer.config, self._vae.config)
        statistics = torch.tensor([self._vae.config.latents_mean, self._vae.config.latents_std])
        self._mean, self._std = statistics[:, None, :, None, None, None].to(device, dtype)
        self._codecs = {
            "native": NativeCodec(),
            "int8": Int8Codec(),
            "int4": Int4Codec(transformer.config.attention_head_dim, device),
        }
        if weights == "int8" and not quantize_blocks(transformer, self._trial, self.model_hash, quantized):
            message = f"model {name!r}: lever weights='int8' cannot be: no layer stands it within {TOLERANCE:.0%}"
            raise ModelError(message, param="levers")
        self.weights = weights
        self.compiled = compiled
        if compiled:
            try:
                compile_blocks(transformer, self._warm_up)
            except RuntimeError as error:  # of the compiler it may be many lines
                reason = str(error).strip().splitlines()[0]
                raise ModelError(f"model {name!r}: lever compile=true cannot be: {reason}", param="levers") from error

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
            encoded = self._vae.encode(frame).latent_dist.mode()
        latents: Tensor = (encoded - self._mean) / self._std
        return latents.float()

    def open_clip(
        self,
        width: int,
        height: int,
        text: TextEmbeds,
        guidance_scale: float,
        frame_cache: str = "native",
        decode: str = "stream",
    ) -> Clip:
        for lever, value in (("frame_cache", frame_cache), ("decode", decode)):
            if line := refusal("anyflow_far", lever, value):
                raise ModelError(f"model {self.name!r}: {line}", param="levers")
        for side, pixels in (("width", width), ("height", height)):
            if pixels % self.spec.grid:
                raise ValueError(f"{side}: {pixels} is not a multiple of {self.spec.grid}")
        return FarClip(
            self._together,
            self._decoder_stream(tiled=decode == "tiled"),
            self._mean,
            self._std,
            text,
            guidance_scale,
            self.window_chunks,
            self._codecs[frame_cache],
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

    def _decoder_stream(self, tiled: bool) -> DecoderStream:
        from videosvc.families.causal_autoencoder import CausalConvAutoencoder

        stream = CausalConvStream if isinstance(self._vae, CausalConvAutoencoder) else WanStream
        if tiled:
            spec = self.spec
            return TiledStream(partial(stream, self._vae), spec.tile, spec.tile_overlap, spec.spatial)
        return stream(self._vae)

    def _autoencoder_class(self, folder: Path) -> Any:
        kind = read_json(self.name, folder, "vae/config.json").get("_class_name")
        if kind == "AutoencoderKLWan":
            from diffusers import AutoencoderKLWan

            return AutoencoderKLWan
        if kind == "CausalConvAutoencoder":
            from videosvc.families.causal_autoencoder import CausalConvAutoencoder

            return CausalConvAutoencoder
        raise ModelError(
            f"model {self.name!r}: vae/config.json: _class_name {kind!r} is not one of "
            "AutoencoderKLWan, CausalConvAutoencoder",
            param="model",
        )

    def _load(self, component_class: Any, folder: Path) -> Any:
        """One component, on the device, ready to infer. Weights that do not fill it exactly are an error."""
        with self._blaming(folder.name), _no_progress_bar():
            component, report = component_class.from_pretrained(
                folder,
                torch_dtype=self.dtype,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
        unfilled = [*report["missing_keys"], *report["mismatched_keys"]]
        if unfilled:
            raise ModelError(
                f"model {self.name!r}: {folder.name}: weights lack {unfilled[0]}"
                + (f" and {len(unfilled) - 1} more" if len(unfilled) > 1 else ""),
                param="model",
            )
        return component.to(self.device).eval().requires_grad_(False)

    def _load_tokenizer(self, folder: Path) -> PreTrainedTokenizerFast:
        from transformers import PreTrainedTokenizerFast

        with self._blaming(folder.name):
            tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(
                folder, local_files_only=True
            )
        return tokenizer

    @contextlib.contextmanager
    def _blaming(self, component: str) -> Iterator[None]:
        """What loaders raise on bad files comes in many types; here it becomes one line."""
        try:
            yield
        except Exception as error:  # tokenizers raises no narrower one
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(
                f"model {self.name!r}: {component} cannot be loaded ({reason})", param="model"
            ) from error


@contextlib.contextmanager
def _no_progress_bar() -> Iterator[None]:
    """transformers draws one for every encoder it loads; ours is the only one a user should see."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()

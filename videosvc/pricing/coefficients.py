"""Seconds per unit of work on one device: measured by `videosvc calibrate`, or a careful guess."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass

from videosvc.engine.costs import ChunkCosts, RunCosts
from videosvc.pricing.features import Features, RunFeatures
from videosvc.pricing.shape import STORED_BYTES, ModelShape

# For devices nobody measured: about half of what a slow one of the kind does on small models, so that a first quote
# errs on the side of who must keep it. One calibration, or a few receipts, replace the guess.
CORE_FLOPS = 15e9  # a CPU core
GPU_FLOPS = 15e12
CPU_LAYER_S = 0.003  # a transformer layer, whatever its work
GPU_LAYER_S = 0.001
TEXT_TOKENS = 512  # what a text encoder reads at most
FIXED_S = 0.02  # anything else, once
MEGAPIXEL_S = 0.5  # through the video encoder
COPY_BYTES_S = 5e9  # between a CPU's memory and a GPU's, where it is not pinned


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Seconds a unit of each feature takes, in the order of `features.FEATURES`."""

    text: Features
    denoise: Features
    decode: Features
    mux: Features
    finish: Features

    def costs(
        self, work: RunFeatures, slowness: float, cold_s: float, spread: float, later_steps: int | None = None
    ) -> RunCosts:
        """Expected seconds of each piece on a device that takes `slowness` times as long as when it was measured."""
        chunks: list[ChunkCosts] = []
        last = len(work.chunks) - 1
        for number, chunk in enumerate(work.chunks):
            # Once the window is full, chunks are alike: planning prices hundreds.
            if 1 < number < last and chunk == work.chunks[number - 1]:
                chunks.append(chunks[-1])
                continue
            step_s = slowness * _dot(chunk.denoise, self.denoise)
            chunks.append(
                ChunkCosts(
                    step_s=step_s,
                    append_s=slowness * _dot(chunk.append, self.denoise) if number < last else 0.0,
                    decode_s=slowness * _dot(chunk.decode, self.decode),
                    mux_s=slowness * _dot(chunk.mux, self.mux),
                )
            )
        before_s = _dot(work.text, self.text) + cold_s
        if work.picture is not None:
            before_s += _dot(work.picture.denoise, self.denoise) + _dot(work.picture.decode, self.decode)
        return RunCosts(
            text_s=slowness * before_s,
            chunks=tuple(chunks),
            finish_s=slowness * _dot(work.finish, self.finish),
            spread=spread,
            slowness=slowness,
            later_steps=later_steps,
        )


def guess(shape: ModelShape, device_name: str, decode: str, offload: Collection[str] = ()) -> Coefficients:
    """A careful guess from the model's weights.

    `device_name` only tells a CPU, which is this one, from a GPU; `decode`: the lever; `offload`: see ModelEntry.
    """
    on_cpu = device_name.startswith("cpu")
    flops = CORE_FLOPS * (os.cpu_count() or 1) if on_cpu else GPU_FLOPS
    layer_s = CPU_LAYER_S if on_cpu else GPU_LAYER_S
    # A convolution's weights work on a grid between the latents' and the pixels'; most are near the latents'.
    weights = 2 * shape.tiny_decoder_weights if decode == "tiny" else shape.vae_weights  # of which half encode
    per_pixel = 2 * weights / shape.spec.spatial**2
    # There and back: all of the text encoder, and of the autoencoder the half that decodes.
    copied = {"text_encoder": shape.text_weights, "vae": 0 if decode == "tiny" else shape.vae_weights // 2}
    moves_s = {part: 2 * STORED_BYTES * copied[part] / COPY_BYTES_S if part in offload else 0.0 for part in copied}
    return Coefficients(
        text=(FIXED_S + 2 * shape.text_weights * TEXT_TOKENS / flops + moves_s["text_encoder"],),
        denoise=(
            layer_s * shape.layers,
            2e3 * shape.transformer_weights / flops,
            4e6 * shape.layers * shape.width / flops,
        ),
        decode=(FIXED_S + moves_s["vae"], 1e6 * per_pixel / flops),
        mux=(FIXED_S / 10, MEGAPIXEL_S / 10),
        finish=(FIXED_S, MEGAPIXEL_S),
    )


def _dot(amounts: Features, seconds: Features) -> float:
    return sum(amount * each for amount, each in zip(amounts, seconds, strict=True))

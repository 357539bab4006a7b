"""A small causal video autoencoder made of 2-D convolutions.

Time is folded into the batch and into the channels: every latent frame stands for `scale_factor_temporal` frames,
which enter as channels. The decoder sees the past only through memory blocks, each of which reads its own input of the
latent frame before, the idea of TAEHV (tiny decoders for Wan and HunyuanVideo). So decoding streams by nature: the
state between two chunks is one feature map for each memory block, whatever the clip's length.

Convolutions work at a quarter of the frame's resolution at most, because on two CPU cores a 3x3 convolution at full
resolution costs more than all the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

DecoderState = tuple[Tensor, ...]

MEMORY = 2  # latents before it that a latent's frames depend on: each memory block looks one back


class ResidualBlock(nn.Module):
    """x + conv(silu(conv(silu(x)))), whose last convolution starts at zero, so that a fresh stack is the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        for parameter in self.conv2.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.conv2(F.silu(self.conv1(F.silu(x))))
        return x + hidden


class MemoryBlock(nn.Module):
    """A residual block that also reads its own input of the latent frame before (zeros at the start of a clip)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        for parameter in self.conv2.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, batch: int, before: Tensor | None) -> tuple[Tensor, Tensor]:
        """`x`: (B*T, C, h, w). `before`: (B, C, h, w), the last input of the chunk before. Also returns the new one."""
        frames = x.unflatten(0, (batch, -1))
        first = torch.zeros_like(frames[:, 0]) if before is None else before
        past = torch.cat([first[:, None], frames[:, :-1]], dim=1).flatten(0, 1)
        hidden: Tensor = self.conv2(F.silu(self.conv1(F.silu(torch.cat([x, past], dim=1)))))
        return x + hidden, frames[:, -1]


class CausalConvAutoencoder(ModelMixin, ConfigMixin):
    """Encodes (B, 3, 4T, H, W) frames in [-1, 1] to (B, z_dim, T, H/8, W/8) latents and decodes them, causally.

    The attributes that diffusers' pipelines read from `AutoencoderKLWan` (`config.z_dim`, `config.latents_mean`,
    `config.latents_std`, `config.scale_factor_*`, `decode`) mean the same here, so a stock pipeline can use it.
    With no `encoder_channels` it is a decoder alone.
    """

    @register_to_config
    def __init__(
        self,
        z_dim: int = 16,
        encoder_channels: Sequence[int] = (96, 128),
        decoder_channels: Sequence[int] = (128, 96),
        blocks: int = 2,
        scale_factor_temporal: int = 4,
        scale_factor_spatial: int = 8,
        latents_mean: Sequence[float] = (0.0,),
        latents_std: Sequence[float] = (1.0,),
    ) -> None:
        super().__init__()
        self._pixel_block = (
            scale_factor_spatial // 2
        )  # side of what is folded into channels before the first convolution
        pixels = 3 * scale_factor_temporal * self._pixel_block**2
        if encoder_channels:
            fine, coarse = encoder_channels
            self.encoder_in = nn.Conv2d(pixels, fine, 3, padding=1)
            self.encoder_fine = nn.Sequential(*[ResidualBlock(fine) for _ in range(blocks)])
            self.encoder_down = nn.Conv2d(fine * 4, coarse, 1)
            self.encoder_coarse = nn.Sequential(*[ResidualBlock(coarse) for _ in range(blocks)])
            self.encoder_out = nn.Conv2d(coarse, z_dim, 1)

        coarse, fine = decoder_channels
        self.decoder_in = nn.Conv2d(z_dim, coarse, 3, padding=1)
        self.memory_coarse = MemoryBlock(coarse)
        self.decoder_coarse = nn.Sequential(*[ResidualBlock(coarse) for _ in range(blocks)])
        self.decoder_up = nn.Conv2d(coarse, fine * 4, 1)
        self.memory_fine = MemoryBlock(fine)
        self.decoder_fine = nn.Sequential(*[ResidualBlock(fine) for _ in range(blocks)])
        self.decoder_out = nn.Conv2d(fine, pixels, 3, padding=1)

    def encode(self, video: Tensor) -> Tensor:
        """(B, 3, 4T, H, W) frames in [-1, 1] -> (B, z_dim, T, H/8, W/8) latents, not normalised."""
        batch, _, frames = video.shape[:3]
        per_latent = self.config.scale_factor_temporal
        if frames % per_latent:
            raise ValueError(f"video: {frames} frames are not a multiple of {per_latent}")
        x = video.unflatten(2, (-1, per_latent)).permute(0, 2, 3, 1, 4, 5)  # (B, T, 4, 3, H, W)
        x = F.pixel_unshuffle(x.flatten(2, 3).flatten(0, 1), self._pixel_block)
        x = self.encoder_fine(self.encoder_in(x.contiguous(memory_format=torch.channels_last)))
        x = self.encoder_coarse(self.encoder_down(F.pixel_unshuffle(x, 2)))
        latents: Tensor = self.encoder_out(F.silu(x)).unflatten(0, (batch, -1))
        return latents.transpose(1, 2)

    def decode_chunk(self, z: Tensor, state: DecoderState | None) -> tuple[Tensor, DecoderState]:
        """Decodes the next latents of a clip: (B, z_dim, T, h, w) -> (B, 3, 4T, H, W) in [-1, 1].

        `state` is what the call before returned, None at the start of a clip.
        """
        batch = z.shape[0]
        coarse_before, fine_before = state if state is not None else (None, None)
        x = z.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        x, coarse_after = self.memory_coarse(self.decoder_in(x), batch, coarse_before)
        x = F.pixel_shuffle(self.decoder_up(self.decoder_coarse(x)), 2)
        x, fine_after = self.memory_fine(x, batch, fine_before)
        x = F.pixel_shuffle(self.decoder_out(F.silu(self.decoder_fine(x))), self._pixel_block)
        x = x.unflatten(1, (-1, 3)).unflatten(0, (batch, -1))  # (B, T, 4, 3, H, W)
        return x.flatten(1, 2).transpose(1, 2), (coarse_after, fine_after)

    def decode(self, z: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
        """Decodes a whole clip at once; the same numbers as `decode_chunk` over its chunks."""
        video = self.decode_chunk(z, None)[0].clamp(-1, 1)
        return DecoderOutput(sample=video) if return_dict else (video,)

"""Tells decoded frames from drawn ones, a patch at a time: what the decoder's outlines must pass.

Where latents leave an outline in doubt, L1 alone draws the blur between what it may be. (PatchGAN, arXiv 1611.07004;
features compared as in pix2pixHD, arXiv 1711.11585, eq. 4; weighted by gradients as in VQGAN, arXiv 2012.09841, eq. 7.)
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FRAMES = 4  # looked at together, so that motion is judged as well
WIDTHS = (48, 96, 128)


class Patches(nn.Module):
    """(B, 3, 4T, H, W) frames in [-1, 1] -> scores (B*T, 1, H/4, W/4), high where they look drawn, and what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3 * FRAMES, WIDTHS[0], 4, 2, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, kernel, stride, 1), nn.GroupNorm(8, after))
            for (before, after), (kernel, stride) in zip(pairwise(WIDTHS), ((4, 2), (3, 1)), strict=True)
        )
        self.leave = nn.Conv2d(WIDTHS[-1], 1, 3, 1, 1)

    def forward(self, frames: Tensor) -> tuple[Tensor, list[Tensor]]:
        x: Tensor = F.leaky_relu(self.enter(in_groups(frames)), 0.2)
        seen = [x]
        for block in self.blocks:
            x = F.leaky_relu(block(x), 0.2)
            seen.append(x)
        score: Tensor = self.leave(x)
        return score, seen


def in_groups(frames: Tensor) -> Tensor:
    """(B, C, 4T, H, W) -> (B*T, 4C, H, W)."""
    grouped: Tensor = frames.unflatten(2, (-1, FRAMES)).permute(0, 2, 3, 1, 4, 5)  # (B, T, 4, C, H, W)
    return grouped.flatten(2, 3).flatten(0, 1)


def telling_loss(patches: Patches, drawn: Tensor, decoded: Tensor, weight: Tensor) -> Tensor:
    """How far it is from telling them apart. `weight`: of each score."""
    real, made = patches(drawn)[0], patches(decoded.detach())[0]
    hinge: Tensor = (weight * (F.relu(1 - real) + F.relu(1 + made))).mean()
    return hinge


def passing_loss(patches: Patches, drawn: Tensor, decoded: Tensor, weight: Tensor) -> Tensor:
    """How far decoded frames are from passing for drawn ones, and from being seen as those they stand for."""
    with torch.no_grad():
        wanted = patches(drawn)[1]
    made, seen = patches(decoded)
    unlike = torch.stack([(a - b).abs().mean() for a, b in zip(seen, wanted, strict=True)]).mean()
    loss: Tensor = unlike - (weight * made).mean() / 10
    return loss


def balance(drawing: Tensor, passing: Tensor, last: Tensor) -> Tensor:
    """By what `passing` must be multiplied for its gradient in the weights of the `last` layer to be as `drawing`'s."""
    sizes = [torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (drawing, passing)]
    ratio: Tensor = (sizes[0] / (sizes[1] + 1e-4)).clamp(max=100).detach()
    return ratio

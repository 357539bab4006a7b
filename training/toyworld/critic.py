"""A reader that learns along: it also tells what the student made from what was drawn."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from training.toyworld.flow import Batch
from training.toyworld.reader import MOST_NOISE, NOTHING, WIDTH, Reader, kind_of, noisy, reading_loss, shares_of


class Critic(nn.Module):
    """(B, C, 2, h, w) latents, their noise levels (B,) -> (B, kinds + 2, h, w) logits, the last: made, of any kind.

    An auxiliary classifier (arXiv 1610.09585), whose classes of what is made are one.
    """

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self.reader = copy.deepcopy(reader).train().requires_grad_(True)
        self.made = nn.Conv2d(WIDTH, 1, 1)
        # To begin with, some doubt about whatever shows.
        kinds = {name: value[:NOTHING].mean(0, keepdim=True) for name, value in reader.leave.state_dict().items()}
        self.made.load_state_dict({"weight": kinds["weight"], "bias": kinds["bias"] - 1})

    def forward(self, latents: Tensor, level: Tensor) -> Tensor:
        hidden = self.reader.hidden(latents, level)
        return torch.cat([self.reader.leave(hidden), self.made(hidden)], 1)

    def shares(self, latents: Tensor, level: Tensor) -> Tensor:
        """(B, kinds + 1): as `Reader.shares`, and how much of what shows was made."""
        logits = self(latents, level).float().softmax(1)
        return shares_of(torch.cat([logits[:, :NOTHING], logits[:, NOTHING + 1 :]], 1))


def critic_loss(critic: Critic, batch: Batch, made: Tensor) -> tuple[Tensor, Tensor]:
    """How far it is from reading the batch's chunks, and from knowing those `made` for what they are."""
    kinds = torch.tensor([kind_of(scene) for scene in batch.scenes], device=made.device)
    read = reading_loss(critic(*noisy(batch.latents, MOST_NOISE)), batch.covered, kinds)
    told = -(critic.shares(*noisy(made.detach(), MOST_NOISE))[:, -1] + 1e-3).clamp(max=1).log()
    return read, batch.mean_shown(told)

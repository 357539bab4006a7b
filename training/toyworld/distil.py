"""Turns the flow model into a flow map: one call jumps from any time t to any earlier r, guidance folded in.

The shortest jumps learn two guided Euler steps of the frozen flow model; longer ones that two half-jumps of the
averaged student equal one whole jump. (Shortcut models, arXiv 2410.12557; Flow Map Matching, arXiv 2406.07507, eq. 9;
guidance folding as in guided distillation, arXiv 2210.03142.) Beside that a classifier of latents rewards chunks that
show what was asked for (T2V-Turbo, arXiv 2405.18750): the teacher itself gets one shape in five wrong.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from diffusers import AnyFlowFARTransformer3DModel
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from training.precision import mixed_precision
from training.toyworld.flow import Batch, Batches, Velocity, follow, noised, sample_times, weighted_loss
from training.toyworld.progress import Stage, learning_rate
from training.toyworld.reader import Reader, disagreement, noisy

GUIDANCE = 4.0
JUMPS = (8, 4, 2, 1)  # of which one whole schedule is made; each joins when the shorter ones have been learnt a while
SMALL_ONLY = 0.6  # of the budget, as for the flow
INSTANT_SHARE = 0.15  # of the steps, those that learn the guided velocity at r = t, for Euler
BATCH_TOKENS = 768  # half of the flow's: a target holds no noise here, so that more steps beat larger ones
REWARD = 0.05  # at which its gradient is twice the jumps'
REWARD_SHARE = 0.6  # of the steps
REWARD_PARTS = (1, 1, 4)  # in how many jumps' grid a rewarded chunk lands: more 4s help four steps, more 1s one
REWARD_NOISE = 0.35  # beyond it the reader itself errs too often
AVERAGE = 0.99  # of the student's weights: a target must not lag far behind in a thousand steps


@torch.no_grad()
def guided(teacher: Velocity, x: Tensor, t: Tensor, r: Tensor, batch: Batch, nothing: Tensor) -> Tensor:
    """The teacher's velocity at `t` under classifier-free guidance (arXiv 2207.12598); wherever `r` is, as in Euler."""
    conditional: Tensor = teacher(x, t, t, batch)
    unconditional: Tensor = teacher(x, t, t, replace(batch, embeds=nothing.expand_as(batch.embeds)))
    return unconditional + GUIDANCE * (conditional - unconditional)


@torch.no_grad()
def two_halves(jump: Callable[[Tensor, Tensor, Tensor], Tensor], x: Tensor, t: Tensor, r: Tensor) -> Tensor:
    """The mean velocity of two jumps, from t half-way to r and from there to r; `jump(x, t, r)` is each one's."""
    middle = (t + r) / 2
    first = jump(x, t, middle).float()
    x_middle = x - (t - middle).view(-1, 1, 1, 1, 1) * first
    return (first + jump(x_middle, middle, r).float()) / 2


def landed(model: Velocity, batch: Batch, middle: Tensor) -> Tensor:
    """A chunk made from noise: in one jump where `middle` (B,) is 1, else in two that meet at that time."""
    x = torch.randn_like(batch.latents)
    start, end = torch.ones_like(middle), torch.zeros_like(middle)
    if (middle < 1).any():
        x = x - (start - middle).view(-1, 1, 1, 1, 1) * model(x, start, middle, batch).float()
    landed: Tensor = x - middle.view(-1, 1, 1, 1, 1) * model(x, middle, end, batch).float()
    return landed


def made_by(model: Velocity, batch: Batch, grids: Sequence[int], rng: random.Random) -> Tensor:
    """Chunks of the batch's captions, landed from noise by way of a time of one of the `grids`: of so many jumps."""
    parts = rng.choice(grids)
    return landed(model, batch, torch.randint(1, parts + 1, (len(batch.scenes),), device=batch.latents.device) / parts)


def reward_loss(model: Velocity, reader: Reader, batch: Batch, rng: random.Random) -> Tensor:
    """How far `reader` is from seeing the captions' kinds of things in chunks that the student makes."""
    shares = reader.shares(*noisy(made_by(model, batch, REWARD_PARTS, rng), REWARD_NOISE))
    return batch.mean_shown(disagreement(shares, batch.scenes))


def train(
    folder: Path, budget_s: float, batches: Batches, flow: AnyFlowFARTransformer3DModel, reader: Reader
) -> AnyFlowFARTransformer3DModel:
    """Returns the averaged student."""
    torch.manual_seed(3)
    rng = random.Random(3)
    device = batches.device
    teacher = Velocity(flow).requires_grad_(False)
    model = copy.deepcopy(teacher).requires_grad_(True)
    average = copy.deepcopy(teacher)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-4, weight_decay=0.01, betas=(0.9, 0.98))
    stage = Stage(folder, "distil", budget_s, {"model": model, "ema": average, "optimizer": optimizer})
    for step, done in stage:
        batch = batches.draw(BATCH_TOKENS, small=done < SMALL_ONLY, captioned=True)
        count = len(batch.latents)
        instant = rng.random() < INSTANT_SHARE
        with sdpa_kernel(SDPBackend.MATH), mixed_precision(device):
            if instant:
                t = r = sample_times(count, device)
                x, _ = noised(batch.latents, t)
                target = guided(teacher, x, t, r, batch, batches.nothing).float()
            else:
                parts = rng.choice((*JUMPS, 1)[: 1 + int(6 * done)])  # the longest is the hardest: twice as often
                t = torch.randint(1, parts + 1, (count,), device=device) / parts
                r = t - 1 / parts
                x, _ = noised(batch.latents, t)
                if parts == JUMPS[0]:
                    jump = partial(guided, teacher, batch=batch, nothing=batches.nothing)
                else:
                    jump = partial(average, batch=batch)
                target = two_halves(jump, x, t, r)
            guess = model(x, t, r, batch)
            reward = reward_loss(model, reader, batch, rng) if rng.random() < REWARD_SHARE else None
        loss = weighted_loss(guess, target, t, batch)
        if reward is not None:
            loss = loss + REWARD * reward
            stage.log(reward=reward.item())
        optimizer.param_groups[0]["lr"] = learning_rate(done, 4e-4, step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        follow(average, model, AVERAGE)
        stage.log(**{"instant" if instant else f"jump_{parts}": loss.item()})
    return average.transformer

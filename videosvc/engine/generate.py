"""The loop: a plan in, events out, and at the end a file."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from videosvc.engine.budget import Budget
from videosvc.engine.checkpoint import Checkpoint
from videosvc.engine.costs import ComputeCap
from videosvc.engine.events import ChunkDone, Done, Event, StepDone, TextEncoded, Traded
from videosvc.engine.meter import Meter
from videosvc.engine.mux import Mp4Writer
from videosvc.engine.plan import Plan
from videosvc.errors import GenerationError
from videosvc.families.base import Clip, Family
from videosvc_samplers import SamplerState, draft, draft_sigmas, flow_sigmas, get_sampler, land


@dataclass(frozen=True, slots=True)
class _Run:
    """What stays the same while one clip is made."""

    plan: Plan
    clip: Clip
    start: Checkpoint
    chunks: int
    meter: Meter
    budget: Budget


class Engine:
    """Runs plans on one loaded model, one at a time."""

    def __init__(self, family: Family, clock: Callable[[], float] = time.perf_counter) -> None:
        """`clock`: in seconds, what compute is counted with."""
        self.family = family
        self._clock = clock

    @torch.inference_mode()
    def run(
        self,
        plan: Plan,
        output: Path,
        resume_from: Checkpoint | None = None,
        cap: ComputeCap | None = None,
    ) -> Generator[Event, None, None]:
        """Makes the clip chunk by chunk, each one decoded and muxed as it lands, and yields what happens.

        Under `decode = "full"` all are decoded at once after the last: memory then grows with the clip.

        To cancel, close the iterator: nothing is left behind. Resumed from the checkpoint of any step or chunk, the
        file is bit for bit what it would have been (if no cap shortens it); finished chunks are decoded again, not
        denoised. When `cap` comes near, a chunk lands by one jump from where it is and later ones get fewer steps.
        Raises UserError (output, prompt), GenerationError, ComputeCapExceeded (one of these: not even that fits),
        ValueError (a checkpoint of another plan or model, other weights than the model's).
        """
        family = self.family
        start = resume_from or Checkpoint(plan, family.model_hash, finished=(), sampler=None, spent={})
        if plan.weights != family.weights:
            raise ValueError(f"plan: weights={plan.weights!r}, but the model was loaded with {family.weights!r}")
        if (start.plan, start.model_hash) != (plan, family.model_hash):
            raise ValueError("resume_from: the checkpoint is of another plan or model")
        chunks = family.spec.chunks(plan.frames)
        cap = cap or ComputeCap.none(len(chunks))
        costs = cap.costs
        spent = resume_from.spent if resume_from is not None else None
        meter = Meter(family.device, spent, cap.max_compute_s, self._clock)
        budget = Budget(meter, cap)
        finished: tuple[Tensor, ...] = ()
        waiting: tuple[Tensor, ...] = ()  # finished, and not decoded yet
        steps: tuple[int, ...] = ()
        written = 0
        with Mp4Writer(output, plan.width, plan.height, plan.fps) as video:
            with budget.piece("text", costs.text_s, again=resume_from is not None):
                guided = plan.guidance_scale > 1.0
                text = family.encode_text(plan.prompt, (plan.negative_prompt or "") if guided else None)
                levers = plan.frame_cache, plan.decode
                clip = family.open_clip(plan.width, plan.height, text, plan.guidance_scale, *levers)
            yield TextEncoded(text.unknown_words)
            run = _Run(plan, clip, start, len(chunks), meter, budget)

            for chunk, size in enumerate(chunks):
                again = chunk < len(start.finished)
                if again:
                    latents, taken = start.finished[chunk].to(family.device), start.steps[chunk]
                else:
                    state = self._start(plan, chunk, size, start)
                    latents, taken = yield from self._denoise(run, state, finished, steps)
                finished, steps = (*finished, latents), (*steps, taken)
                if chunk + 1 < len(chunks):
                    with budget.piece("denoise", costs.chunks[chunk].append_s, again):
                        clip.append(latents)
                waiting, pictures = (*waiting, latents), torch.empty(0, plan.height, plan.width, 3, dtype=torch.uint8)
                if plan.decode != "full" or chunk + 1 == len(chunks):
                    due, waiting = torch.cat(waiting, dim=2), ()
                    with budget.piece("decode", costs.chunks[chunk].decode_s, again):
                        frames = clip.decode(due)
                    first_latent = sum(chunks[: chunk + 1]) - due.shape[2]
                    assert len(frames) == family.spec.frames_of(first_latent, due.shape[2])
                    pictures = frames[: plan.frames - written]
                    with budget.piece("mux", costs.chunks[chunk].mux_s, again):
                        video.write(pictures)
                    written += len(pictures)
                done = Checkpoint(plan, family.model_hash, finished, None, meter.spent, steps)
                if again:  # what follows it is known already
                    done = replace(start, spent=meter.spent)
                yield ChunkDone(chunk, len(chunks), written, plan.frames, pictures, done)

            with budget.piece("mux", costs.finish_s):
                video.finish()
        yield Done(output, meter.receipt(steps))

    def _start(self, plan: Plan, chunk: int, latents: int, start: Checkpoint) -> SamplerState:
        """Where a chunk of `latents` begins: at the checkpoint if that was in it, else at noise."""
        device = self.family.device
        if chunk == len(start.finished) and start.sampler is not None:
            return SamplerState.from_tensors({n: t.to(device) for n, t in start.sampler.to_tensors().items()})
        spec = self.family.spec
        shape = (1, spec.channels, latents, plan.height // spec.spatial, plan.width // spec.spatial)
        # Drawn on the CPU: one seed, one noise, whatever the device.
        generator = torch.Generator().manual_seed(_seed(plan.seed, chunk, "noise"))
        noise = torch.randn(shape, generator=generator).to(device)
        return SamplerState.start(noise, _seed(plan.seed, chunk, "sampler"))

    def _denoise(
        self, run: _Run, state: SamplerState, finished: tuple[Tensor, ...], taken: tuple[int, ...]
    ) -> Generator[Event, None, tuple[Tensor, int]]:
        """Takes one chunk from `state` to its end, an event a step; returns its latents and steps.

        `taken`: the steps of each finished chunk. What the cap cuts short goes on by jumps of the flow map, which
        may be of any number.
        """
        plan, budget, chunk = run.plan, run.budget, len(finished)
        steps = run.start.steps[chunk] if state.step > 0 else budget.steps_for(chunk, plan.most_steps)
        if state.step == 0 and steps < plan.most_steps:
            yield Traded(chunk, plan.most_steps, steps, chunk / run.chunks)
        sigmas, sampler = self._sampler(run, state, steps)
        while state.step < steps:
            if state.step + 1 < steps and not budget.allows_step(chunk, state.step):
                here = (chunk + state.step / (steps + 1)) / run.chunks
                yield Traded(chunk, steps, state.step + 1, here)
                steps = state.step + 1
                sampler = land(run.clip.denoise, state, sigmas[state.step])
            if state.step + 1 == steps:
                budget.require_landing(chunk)
            with budget.piece("denoise", budget.costs.chunks[chunk].step_s):
                state = next(sampler)
                assert state.denoised is not None
                finite = bool((state.latents.isfinite() & state.denoised.isfinite()).all())
            if not finite:
                raise GenerationError(f"step {state.step} of chunk {chunk + 1}: latents are not finite")
            if state.done:
                steps = state.step
            checkpoint = Checkpoint(plan, self.family.model_hash, finished, state, run.meter.spent, (*taken, steps))
            preview = partial(run.clip.preview, state.denoised)
            yield StepDone(chunk, run.chunks, state.step, steps, preview, checkpoint)
        return state.latents, steps

    def _sampler(self, run: _Run, state: SamplerState, steps: int) -> tuple[tuple[float, ...], Iterator[SamplerState]]:
        """The noise level before each of a chunk's steps, and what takes them: the flow map if the cap leaves fewer."""
        plan, shift, denoise = run.plan, self.family.shift, run.clip.denoise
        if plan.sampler == "draft" and steps == plan.most_steps:
            assert plan.draft_threshold is not None
            sigmas = draft_sigmas(plan.steps, shift)
            return sigmas, draft(denoise, state, sigmas, plan.draft_threshold)
        sigmas = flow_sigmas(steps, shift)
        sampler = get_sampler(plan.sampler if steps == plan.most_steps else "flow_map")
        return sigmas, sampler(denoise, state, sigmas)


def _seed(seed: int, chunk: int, purpose: str) -> int:
    """A seed of its own for each chunk and use, so that a resumed clip need not replay the chunks before."""
    digest = hashlib.sha256(f"{seed}/{chunk}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1

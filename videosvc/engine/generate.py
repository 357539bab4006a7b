"""The loop: a plan in, events out, and at the end a file."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from videosvc.engine.batch import Batch, Seat
from videosvc.engine.budget import Budget, ComputeCapExceeded
from videosvc.engine.checkpoint import Checkpoint
from videosvc.engine.costs import ComputeCap
from videosvc.engine.events import ChunkDone, Done, Event, StepDone, TextEncoded, Traded
from videosvc.engine.meter import Meter
from videosvc.engine.mux import Mp4Writer
from videosvc.engine.picture import Picture
from videosvc.engine.plan import Plan
from videosvc.errors import GenerationError
from videosvc.families.base import Clip, Family
from videosvc.families.latent_spec import LatentSpec
from videosvc.families.step_cache import StepCache
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
    seat: Seat


class Engine:
    """Runs plans on one loaded model: one after the other, or several in threads, which then share forwards."""

    def __init__(self, family: Family, clock: Callable[[], float] = time.perf_counter) -> None:
        """`clock`: in seconds, what compute is counted with."""
        self.family = family
        self.clock = clock
        self._batch = Batch(family, clock)

    @torch.inference_mode()
    def run(
        self,
        plan: Plan,
        output: Path,
        resume_from: Checkpoint | None = None,
        cap: ComputeCap | None = None,
        picture: Picture | None = None,
    ) -> Generator[Event, None, None]:
        """Makes the clip chunk by chunk, each one decoded and muxed as it lands, and yields what happens.

        Under `decode = "full"` all are decoded at once after the last: memory then grows with the clip.

        `picture`, the one whose digest the plan has, is taken in as the chunk before the first: the frame cache and the
        decoder have seen it, and of what it decodes to the last frame is shown, as the clip's first.

        To cancel, close the iterator: nothing is left behind. Resumed from the checkpoint of any step or chunk, the
        file is bit for bit what it would have been (if no cap shortens it; to within roundings where forwards were
        shared with other clips; a step cache begins empty); finished chunks are decoded again, not denoised. When `cap`
        comes near, a chunk lands by one jump from where it is and later ones get fewer steps; if not even that fits,
        the file ends with the chunks that are done, and ComputeCapExceeded says so.
        Raises UserError (output, prompt, size), GenerationError, ComputeCapExceeded (one of these),
        ValueError (a checkpoint of another plan or model, other weights than the model's, another picture).
        """
        family = self.family
        start = resume_from or Checkpoint(plan, family.model_hash, finished=(), sampler=None, spent={})
        if plan.loading != family.levers:
            raise ValueError(f"plan: {plan.loading}, but the model has {family.levers}")
        if (start.plan, start.model_hash) != (plan, family.model_hash):
            raise ValueError("resume_from: the checkpoint is of another plan or model")
        if plan.input_reference != (None if picture is None else picture.digest):
            raise ValueError("picture: not the one that the plan starts from")
        chunks = family.spec.chunks(plan.frames, picture is not None)
        cap = cap or ComputeCap.none(len(chunks))
        costs = cap.costs
        spent = resume_from.spent if resume_from is not None else None
        finished: tuple[Tensor, ...] = ()
        waiting: tuple[Tensor, ...] = ()  # finished, and not decoded yet
        steps: tuple[int, ...] = ()
        decoded = written = unseen = 0  # latents, frames, frames of the picture that are not shown
        stopped: ComputeCapExceeded | None = None
        writer = Mp4Writer(output, plan.width, plan.height, plan.fps)
        with self._batch.seat() as seat, writer as video, contextlib.ExitStack() as ends:
            meter = Meter(family.device, spent, cap.max_compute_s, seat.clock, seat.held)
            budget = Budget(meter, cap, lambda: seat.clips == 1 and plan.step_cache == "none")
            try:
                with budget.piece("text", costs.text_s, again=resume_from is not None):
                    guided = plan.guidance_scale > 1.0
                    text = family.encode_text(plan.prompt, (plan.negative_prompt or "") if guided else None)
                    levers = plan.frame_cache, plan.decode, self._step_cache(plan)
                    clip = family.open_clip(plan.width, plan.height, text, plan.guidance_scale, *levers)
                    ends.callback(clip.close)
                    if picture is not None:
                        still = family.encode_picture(torch.from_numpy(picture.fitted(plan.width, plan.height)))
                        clip.append(still)
                        waiting, unseen = (still,), family.spec.frames_of(0, still.shape[2]) - 1
                yield TextEncoded(text.unknown_words, bool(plan.negative_prompt) and not guided)
                run = _Run(plan, clip, start, len(chunks), meter, budget, seat)

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
                    waiting = (*waiting, latents)
                    pictures = torch.empty(0, plan.height, plan.width, 3, dtype=torch.uint8)
                    if plan.decode != "full" or chunk + 1 == len(chunks):
                        due, waiting = torch.cat(waiting, dim=2), ()
                        with budget.piece("decode", costs.chunks[chunk].decode_s, again):
                            frames = clip.decode(due)
                        assert len(frames) == family.spec.frames_of(decoded, due.shape[2])
                        decoded += due.shape[2]
                        pictures = frames[0 if written else unseen :][: plan.frames - written]
                        with budget.piece("mux", costs.chunks[chunk].mux_s, again):
                            video.write(pictures)
                        written += len(pictures)
                    done = Checkpoint(plan, family.model_hash, finished, None, meter.spent, steps)
                    if again:  # what follows it is known already
                        done = replace(start, spent=meter.spent)
                    yield ChunkDone(chunk, len(chunks), written, plan.frames, pictures, done)
            except ComputeCapExceeded as error:
                if not written:
                    raise ComputeCapExceeded(str(error), meter.receipt(steps), budget.slowness) from error
                stopped = error

            with budget.closing():
                video.finish()
        receipt = meter.receipt(steps, seat.shared_s, written)
        if stopped is not None:
            kept = f"{stopped}; the first {written / plan.fps:g} s of the clip are kept"
            raise ComputeCapExceeded(kept, receipt, budget.slowness) from stopped
        yield Done(output, receipt)

    def _step_cache(self, plan: Plan) -> StepCache | None:
        if plan.step_cache == "none":
            return None
        return StepCache(plan.step_cache, flow_sigmas(plan.most_steps, self.family.shift))

    def _start(self, plan: Plan, chunk: int, latents: int, start: Checkpoint) -> SamplerState:
        """Where a chunk of `latents` begins: at the checkpoint if that was in it, else at noise."""
        device = self.family.device
        if chunk == len(start.finished) and start.sampler is not None:
            return SamplerState.from_tensors({n: t.to(device) for n, t in start.sampler.to_tensors().items()})
        noise = chunk_noise(plan, self.family.spec, chunk, latents).to(device)
        return SamplerState.start(noise, _seed(plan.seed, chunk, "sampler"))

    def _denoise(
        self, run: _Run, state: SamplerState, finished: tuple[Tensor, ...], taken: tuple[int, ...]
    ) -> Generator[Event, None, tuple[Tensor, int]]:
        """Takes one chunk from `state` to its end, an event a step; returns its latents and steps.

        `taken`: the steps of each finished chunk. What the cap cuts short goes on by jumps of the flow map, which
        may be of any number.
        """
        plan, budget, chunk = run.plan, run.budget, len(finished)
        wanted = plan.steps_of(chunk)
        steps = run.start.steps[chunk] if state.step > 0 else budget.steps_for(chunk, wanted)
        if state.step == 0 and steps < wanted:
            yield Traded(chunk, wanted, steps, chunk / run.chunks)
        sigmas, sampler = self._sampler(run, chunk, state, steps)
        while state.step < steps:
            if state.step + 1 < steps and not budget.allows_step(chunk, state.step):
                here = (chunk + state.step / (steps + 1)) / run.chunks
                if plan.sampler == "draft" and steps == plan.most_steps and state.step == 1:
                    assert state.denoised is not None  # the draft, which is what landing would compute anew
                    yield Traded(chunk, steps, 1, here)
                    return state.denoised, 1
                yield Traded(chunk, steps, state.step + 1, here)
                steps = state.step + 1
                sampler = land(partial(run.seat.denoise, run.clip), state, sigmas[state.step])
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
            preview = partial(run.seat.aside, partial(run.clip.preview, state.denoised))
            yield StepDone(chunk, run.chunks, state.step, steps, preview, checkpoint)
        return state.latents, steps

    def _sampler(
        self, run: _Run, chunk: int, state: SamplerState, steps: int
    ) -> tuple[tuple[float, ...], Iterator[SamplerState]]:
        """The noise level before each of a chunk's steps, and what takes them: if the cap leaves fewer, the flow map,
        where the model has one."""
        plan, shift, denoise = run.plan, self.family.shift, partial(run.seat.denoise, run.clip)
        if plan.sampler == "draft" and steps == plan.most_steps:
            assert plan.draft_threshold is not None
            sigmas = draft_sigmas(plan.steps, shift)
            return sigmas, draft(denoise, state, sigmas, plan.draft_threshold)
        sigmas = flow_sigmas(steps, shift)
        whole = steps == plan.steps_of(chunk) or not self.family.knows_jumps
        sampler = get_sampler(plan.sampler if whole else "flow_map")
        return sigmas, sampler(denoise, state, sigmas)


def chunk_noise(plan: Plan, spec: LatentSpec, chunk: int, latents: int) -> Tensor:
    """Where chunk number `chunk` of so many latents begins: `(1, C, T, h, w)`.

    Drawn on the CPU, so that one seed is one noise on whatever device.
    """
    shape = (1, spec.channels, latents, plan.height // spec.spatial, plan.width // spec.spatial)
    return torch.randn(shape, generator=torch.Generator().manual_seed(_seed(plan.seed, chunk, "noise")))


def _seed(seed: int, chunk: int, purpose: str) -> int:
    """A seed of its own for each chunk and use, so that a resumed clip need not replay the chunks before."""
    digest = hashlib.sha256(f"{seed}/{chunk}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1

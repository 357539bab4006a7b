"""The loop: a plan in, events out, and at the end a file."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from videosvc.engine.checkpoint import Checkpoint
from videosvc.engine.events import ChunkDone, Done, Event, StepDone, TextEncoded
from videosvc.engine.meter import Meter
from videosvc.engine.mux import Mp4Writer
from videosvc.engine.plan import Plan
from videosvc.errors import GenerationError
from videosvc.families.base import Clip, Family
from videosvc_samplers import SamplerState, flow_sigmas, get_sampler


class Engine:
    """Runs plans on one loaded model, one at a time."""

    def __init__(self, family: Family) -> None:
        self.family = family

    @torch.inference_mode()
    def run(
        self, plan: Plan, output: Path, resume_from: Checkpoint | None = None
    ) -> Generator[Event, None, None]:
        """Makes the clip chunk by chunk, each one decoded and muxed as it lands, and yields what happens.

        To cancel, close the iterator: nothing is left behind. Resumed from the checkpoint of any step or chunk, the
        file is bit for bit what it would have been; finished chunks are decoded again, not denoised. Raises
        UserError (output, prompt), GenerationError, ValueError (a checkpoint of another plan or model).
        """
        family = self.family
        start = resume_from or Checkpoint(plan, family.model_hash, finished=(), sampler=None, spent={})
        if (start.plan, start.model_hash) != (plan, family.model_hash):
            raise ValueError("resume_from: the checkpoint is of another plan or model")
        meter = Meter(family.device, resume_from.spent if resume_from is not None else None)
        chunks = family.spec.chunks(plan.frames)
        finished: tuple[Tensor, ...] = ()
        written = 0
        with Mp4Writer(output, plan.width, plan.height, plan.fps) as video:
            with meter.stage("text"):
                guided = plan.guidance_scale > 1.0
                text = family.encode_text(plan.prompt, (plan.negative_prompt or "") if guided else None)
                clip = family.open_clip(plan.width, plan.height, text, plan.guidance_scale)
            yield TextEncoded(text.unknown_words)

            for chunk, size in enumerate(chunks):
                if chunk < len(start.finished):
                    latents = start.finished[chunk].to(family.device)
                else:
                    state = self._start(plan, chunk, size, start)
                    latents = yield from self._denoise(plan, clip, state, finished, len(chunks), meter)
                first_latent = sum(chunks[:chunk])
                finished = (*finished, latents)
                if chunk + 1 < len(chunks):
                    with meter.stage("denoise"):
                        clip.append(latents)
                with meter.stage("decode"):
                    frames = clip.decode(latents)
                assert len(frames) == family.spec.frames_of(first_latent, size)
                with meter.stage("mux"):
                    video.write(frames[: plan.frames - written])
                written = min(written + len(frames), plan.frames)
                done = Checkpoint(plan, family.model_hash, finished, None, meter.spent)
                if chunk < len(start.finished):  # landed again: what follows it is known already
                    done = replace(start, spent=meter.spent)
                yield ChunkDone(chunk, len(chunks), written, plan.frames, done)

            with meter.stage("mux"):
                video.finish()
        yield Done(output, meter.receipt())

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
        self,
        plan: Plan,
        clip: Clip,
        state: SamplerState,
        finished: tuple[Tensor, ...],
        chunks: int,
        meter: Meter,
    ) -> Generator[Event, None, Tensor]:
        """Takes one chunk from `state` to its end, an event a step; returns its latents."""
        chunk = len(finished)
        steps = get_sampler(plan.sampler)(clip.denoise, state, flow_sigmas(plan.steps, self.family.shift))
        while state.step < plan.steps:
            with meter.stage("denoise"):
                state = next(steps)
                finite = bool(state.latents.isfinite().all())
            if not finite:
                raise GenerationError(f"step {state.step} of chunk {chunk + 1}: latents are not finite")
            assert state.denoised is not None
            checkpoint = Checkpoint(plan, self.family.model_hash, finished, state, meter.spent)
            yield StepDone(chunk, chunks, state.step, plan.steps, state.denoised, checkpoint)
        return state.latents


def _seed(seed: int, chunk: int, purpose: str) -> int:
    """A seed of its own for each chunk and use, so that a resumed clip need not replay the chunks before."""
    digest = hashlib.sha256(f"{seed}/{chunk}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1

"""One attempt at one job: drives the engine, tells how far it is, and saves where it stands."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videosvc.artifacts.previews import ClipPreviews, jpeg
from videosvc.config.size import Size
from videosvc.engine.checkpoint import Checkpoint
from videosvc.engine.costs import ComputeCap
from videosvc.engine.events import ChunkDone, Done, Event, StepDone, TextEncoded, Traded
from videosvc.engine.generate import Engine
from videosvc.engine.meter import ComputeReceipt, Meter
from videosvc.engine.picture import Picture
from videosvc.errors import EncoderStopped
from videosvc.pricing.money import usd
from videosvc.pricing.quote import Quote
from videosvc.worker.checkpoints import CheckpointFolder
from videosvc_queue.context import Cancelled, Context, GiveBack, LeaseLost, MakeWay
from videosvc_queue.job import Job

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

PREVIEW_S = 1.0  # between a preview and a chunk's, at least; its frames are decoded anyway: it takes 1 ms
STEP_PREVIEW_S = 2.0  # between a preview and a step's, which is decoded for it: at 128x128 that takes as long as a step
PREVIEW_SHARE = 0.0015  # of the time, for steps' previews
PROGRESS_S = 0.5  # between two words of progress, but for chunks: at steps of 30 ms one each took 3 % of the time
BEAT_S = 1.0  # between two rows written; cancelling is heard of at every step
STEP_S = 15.0  # of compute between two checkpoints at steps
CHUNK_S = 3.0  # the same at chunks: a file is synced, and SQL asked before, in 5 to 10 ms; workers are seldom lost
ENDING_S = 1.0  # after the last step: previews of the file, and storing it


class Attempt:
    """`run` it once; what has been spent can be asked for at any time."""

    def __init__(
        self,
        job: Job,
        context: Context,
        quote: Quote,
        engine: Engine,
        checkpoints: CheckpointFolder,
        picture: Picture | None = None,
    ) -> None:
        self._job = job
        self._context = context
        self._quote = quote
        self._engine = engine
        self._checkpoints = checkpoints
        self._picture = picture
        self._resumed = self._find_start()
        plan, model_hash = quote.plan, engine.family.model_hash
        self._newest = self._resumed or Checkpoint(plan, model_hash, finished=(), sampler=None, spent={})
        # Seconds of earlier attempts that came to nothing: what they had spent when last heard of, and not saved.
        unsaved_s = max(0.0, job.detail.get("spent_s", 0.0) - _total_s(self._newest))
        self.lost_s: float = job.detail.get("lost_s", 0.0) + unsaved_s
        self._detail: dict[str, Any] = {**job.detail, "lost_s": self.lost_s, "device": self.receipt().device}
        self._saved_s = _total_s(self._newest)
        self._further = False  # than the attempts before
        self.previews = ClipPreviews(Size(plan.width, plan.height), plan.frames)
        self._told_at = self._chunk_preview_at = float("-inf")
        self._beaten_at = time.monotonic()  # it was claimed a moment ago
        self._step_preview_at = self._beaten_at + STEP_PREVIEW_S
        self._steps = (0, quote.plan.steps)

    def run(self, output: Path, cap: ComputeCap | None) -> ComputeReceipt:
        """Makes the file, or raises what the engine raises, or Cancelled, LeaseLost, GiveBack."""
        try:
            try:
                return self._follow(output, cap)
            except EncoderStopped:
                self._context.check()  # an init system that stops a service tells all its processes
                raise
        except MakeWay:
            if self._unsaved_s > 0:
                self._save()
            raise GiveBack(wasted_s=self._unsaved_s) from None

    def _follow(self, output: Path, cap: ComputeCap | None) -> ComputeReceipt:
        with closing(self._engine.run(self._quote.plan, output, self._resumed, cap, self._picture)) as events:
            for event in events:
                if isinstance(event, Done):
                    return event.receipt
                self._tell(event, cap)
                saves = self._unsaved_s > (CHUNK_S if isinstance(event, ChunkDone) else STEP_S)
                # First, and in SQL: a worker that was fenced off must not save over its successor's.
                self._go_on(event, saves)
                if saves:
                    self._save()
        raise AssertionError("the engine ended without a Done event")

    def receipt(self) -> ComputeReceipt:
        """Of what was spent up to the newest event."""
        receipt = Meter(self._engine.family.device, self._newest.spent).receipt(self._newest.steps)
        return replace(receipt, resumed=self._resumed is not None)

    @property
    def warnings(self) -> list[str]:
        """For the caller, of a job that goes on all the same."""
        found: list[str] = self._detail.get("warnings", [])
        return found

    def note(self) -> None:
        """Writes down what was spent, for whoever ends the job if no other attempt does."""
        with suppress(Cancelled, LeaseLost, MakeWay):
            self._context.beat(detail=self._spent)

    @property
    def _spent(self) -> dict[str, Any]:
        """The job's `detail`."""
        return {**self._detail, "spent_s": round(_total_s(self._newest), 4)}

    def _find_start(self) -> Checkpoint | None:
        """What an earlier attempt left, if it fits."""
        found = self._checkpoints.load(self._job.id)
        if found is None or (found.plan, found.model_hash) == (self._quote.plan, self._engine.family.model_hash):
            return found
        log.warning("job %s starts over: its checkpoint is of another plan or of other weights", self._job.id)
        return None

    def _tell(self, event: Event, cap: ComputeCap | None) -> None:
        """To those who watch, through Redis."""
        match event:
            case TextEncoded():
                plan = self._quote.plan_as_dict()
                self._context.publish("plan", {"plan": plan, "unknown_words": list(event.unknown_words)})
                if event.warnings:
                    self._detail["warnings"] = event.warnings
            case Traded():
                assert cap is not None  # without one nothing is traded
                plan = self._quote.plan_as_dict()
                saved_s = (event.steps_before - event.steps) * cap.costs.chunks[event.chunk].step_s
                saves_usd = float(usd(self._quote.rate.price(saved_s)))
                landing = {"what": "steps", "from": event.steps_before, "to": event.steps, "saves_usd": saves_usd}
                plan = {**plan, "steps": event.steps, "traded": [*plan["traded"], landing]}
                self._detail["plan"] = plan
                self._context.publish("plan", {"plan": plan})
            case StepDone():
                self._newest = event.checkpoint
                self._further = self._percent(event) > self._job.progress
                self._steps = (event.step, event.steps)
                if time.monotonic() - self._told_at >= PROGRESS_S:
                    self._publish_progress(event)
                if time.monotonic() >= self._step_preview_at:
                    self._publish_preview(event, event.preview)
            case ChunkDone():
                self._newest = event.checkpoint
                self.previews.add(event.pictures)
                self._publish_progress(event)
                if len(event.pictures) and time.monotonic() >= self._chunk_preview_at:
                    self._publish_preview(event, lambda: event.pictures[-1])

    def _publish_progress(self, event: StepDone | ChunkDone) -> None:
        step, steps = self._steps
        place = {"chunk": event.chunk + 1, "chunks": event.chunks, "step": step, "steps": steps}
        self._context.publish("progress", {"progress": self._percent(event), **place})
        self._told_at = time.monotonic()

    def _publish_preview(self, event: StepDone | ChunkDone, picture: Callable[[], Tensor]) -> None:
        """`picture`: makes a frame (H, W, 3)."""
        began = time.monotonic()
        self._context.preview(jpeg(picture()))
        self._context.publish("preview", {"progress": self._percent(event)})
        done = time.monotonic()
        self._chunk_preview_at = done + PREVIEW_S
        pause_s = max(STEP_PREVIEW_S, (done - began) / PREVIEW_SHARE)
        self._step_preview_at = max(self._step_preview_at, done + pause_s)

    @property
    def _unsaved_s(self) -> float:
        return _total_s(self._newest) - self._saved_s

    def _save(self) -> None:
        if self._checkpoints.save(self._job.id, self._newest):
            self._saved_s = _total_s(self._newest)

    def _go_on(self, event: Event, for_certain: bool) -> None:
        """Raises Cancelled, LeaseLost or MakeWay if the job is not to. `for_certain`: SQL says so."""
        now = time.monotonic()
        spent_s = _total_s(self._newest)
        if event.progress > 0 and spent_s > 0:
            remaining_s = spent_s / event.progress * (1 - event.progress) + ENDING_S
        else:
            remaining_s = self._quote.compute_s + ENDING_S
        if for_certain or now - self._beaten_at >= BEAT_S:
            self._beaten_at = now
            self._context.beat(self._percent(event), self._spent, remaining_s)
        else:
            self._context.check(remaining_s)
        if self._further:
            self._context.make_way(remaining_s)

    def _percent(self, event: Event) -> int:
        """100 is for a job whose files are stored. A resumed one does not fall back while it decodes anew."""
        reached = self._job.progress if self._resumed is not None else 0
        return max(reached, min(99, int(100 * event.progress)))


def _total_s(checkpoint: Checkpoint) -> float:
    return sum(checkpoint.spent.values())

"""From a job of the queue to its outcome: an MP4 with its previews and a receipt, or the reason why not."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from videosvc.artifacts.previews import ClipPreviews
from videosvc.artifacts.scratch import scratch_folder
from videosvc.artifacts.store import Artifact, ArtifactStore
from videosvc.config.models import load_model
from videosvc.config.reload import LiveConfig
from videosvc.engine.budget import ComputeCapExceeded
from videosvc.engine.generate import Engine
from videosvc.engine.meter import ComputeReceipt
from videosvc.engine.picture import Picture
from videosvc.engine.plan import Plan
from videosvc.errors import EncoderStopped, GenerationError, ModelError, UnknownModel, UserError
from videosvc.pricing.cost_model import CostModel
from videosvc.pricing.energy import Energy, EnergyMeter
from videosvc.pricing.quote import Quote, charge
from videosvc.pricing.receipt import full_receipt, partial_receipt, plan_as_run
from videosvc.worker.attempt import Attempt
from videosvc.worker.broken_device import is_broken
from videosvc.worker.checkpoints import CheckpointFolder
from videosvc.worker.cpu_share import share_cpu_in_thread
from videosvc.worker.memory import free_memory, is_out_of_memory
from videosvc.worker.warm_models import WarmModels
from videosvc_queue.context import Cancelled, Context, Unfit
from videosvc_queue.job import Job, Status
from videosvc_queue.patience import patiently
from videosvc_queue.runner import Outcome

log = logging.getLogger(__name__)

OUT_OF_MEMORY = "out_of_memory"
WARM_UP_PROMPT = "a red ball"  # not the job's own, which the engine would remember


class VideoHandler:
    """Runs jobs: one at a time, or several in threads, which then share forwards.

    What it raises is no fault of the job: the queue has it tried again.
    """

    def __init__(
        self,
        config: LiveConfig,
        models: WarmModels,
        costs: CostModel,
        artifacts: ArtifactStore,
        checkpoints: CheckpointFolder,
        retention_s: float,
        max_batch: int = 1,
    ) -> None:
        """`costs`: of the device of `models`; `retention_s`: how long artifacts are kept; `max_batch`: the most jobs
        that may run at once."""
        self.most = max(1, max_batch)
        self._config = config
        self._models = models
        self._costs = costs
        self._artifacts = artifacts
        self._checkpoints = checkpoints
        self._retention_s = retention_s

    def warm_up(self, plan: Plan) -> None:
        """Has the plan's model loaded, and warm.

        Raises ModelError if it cannot be loaded, GenerationError if it cannot run.
        """
        self._models.get(load_model(self._config.folder, plan.model), plan.loading, partial(_run_briefly, plan))

    def joins(self, running: Sequence[Job], job: Job) -> bool:
        """Whether its steps are cheaper in one batch with theirs: the same model, weights and size, and not more jobs
        than this device was measured to serve so."""
        try:
            plan, *others = (Quote.parse(one.payload["quote"]).plan for one in (job, *running))
            if any(_shape(other) != _shape(plan) for other in others):
                return False
            entry = load_model(self._config.folder, plan.model)
            return self._models.has(entry, plan.loading) and len(running) < self._costs.most_clips(
                plan, entry, self.most
            )
        except (UserError, KeyError, TypeError, ValueError):  # it runs alone then, and says what is wrong with it
            return False

    def __call__(self, job: Job, context: Context) -> Outcome:
        """Raises LeaseLost, GiveBack, Unfit, OSError (a full disk, an artifact store that is away)."""
        if threading.current_thread() is not threading.main_thread():
            share_cpu_in_thread()
        try:
            outcome = self._make(job, context, Quote.parse(job.payload["quote"]))
        except Exception as error:
            failure = _failure(job, error)
            if failure is None:
                raise
            outcome = failure
        if outcome.error_code == OUT_OF_MEMORY:
            free_memory()  # not sooner: see there
        # Not before the end is written: until then another attempt may need it.
        return replace(outcome, on_end=partial(self._checkpoints.remove, job.id))

    def _make(self, job: Job, context: Context, quote: Quote) -> Outcome:
        context.check()  # before a model is loaded for nothing
        plan, limit_s = quote.plan, quote.max_compute_s
        self._config.refresh()  # an edit counts from the next job on
        entry = load_model(self._config.folder, plan.model)
        engine = self._models.get(entry, plan.loading, partial(_warm_up, plan))
        cap = None if limit_s is None else self._costs.compute_cap(plan, entry, limit_s)
        attempt = Attempt(job, context, quote, engine, self._checkpoints, self._picture(job))
        energy = EnergyMeter(engine.family.device)
        with scratch_folder() as work:
            video = work / "video.mp4"
            try:
                receipt = attempt.run(video, cap)
                used = None if receipt.shared_s else _measured(attempt, receipt, energy)
                learn = partial(self._learn, partial(self._costs.observe, plan, entry, receipt))
                artifacts = self._keep(job, context, video, attempt.previews, learn)
            except Cancelled:
                spent = attempt.receipt()
                stopped = Outcome(Status.CANCELLED, charge(spent.compute_seconds, quote))
                return self._cut_short(stopped, quote, attempt, spent, energy)
            except ComputeCapExceeded as error:
                self._learn(partial(self._costs.observe_stopped, plan, entry, error.slowness))
                spent = error.spent or attempt.receipt()
                stopped = _failed(error.code, str(error), charge(spent.compute_seconds, quote))
                stopped = self._cut_short(stopped, quote, attempt, spent, energy)
                if error.kept is None:
                    return stopped
                return self._with_files(stopped, self._keep(job, context, video, attempt.previews))
            except Exception as error:
                if not is_out_of_memory(error) and is_broken(engine.family.device):
                    attempt.note()
                    raise Unfit(f"{engine.family.device} can be used no more: {error}") from error
                failure = _failure(job, error)
                if failure is None:
                    attempt.note()
                    raise
                return self._cut_short(failure, quote, attempt, attempt.receipt(), energy)
        saved_s = self._costs.batch_saved_s(plan, entry, receipt)
        shown = full_receipt(receipt, quote, used, attempt.lost_s, saved_s)
        done = Outcome(Status.COMPLETED, charge(receipt.compute_seconds, quote))
        return self._with_files(_with_receipt(done, quote, receipt, shown, attempt.warnings), artifacts)

    def _cut_short(
        self, ended: Outcome, quote: Quote, attempt: Attempt, spent: ComputeReceipt, energy: EnergyMeter
    ) -> Outcome:
        """With the receipt of a clip that is not whole."""
        used = _measured(attempt, spent, energy) if self.most == 1 else None
        shown = partial_receipt(spent, quote, ended.charge_usd, used, attempt.lost_s)
        return _with_receipt(ended, quote, spent, shown, attempt.warnings)

    def _with_files(self, ended: Outcome, artifacts: dict[str, Any]) -> Outcome:
        expires_at = time.time() + self._retention_s
        return replace(ended, result={"artifacts": artifacts, **ended.result}, expires_at=expires_at)

    def _picture(self, job: Job) -> Picture | None:
        """What the job starts from, as the API stored it."""
        key = job.payload.get("input_reference")
        return None if key is None else Picture(patiently(lambda: b"".join(self._artifacts.open(key)), OSError))

    def _keep(
        self,
        job: Job,
        context: Context,
        video: Path,
        previews: ClipPreviews,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> dict[str, Any]:
        """Stores the clip and its previews; the `artifacts` of the result. `meanwhile` is called while the disk, or a
        server, is waited for."""

        def put(make: Callable[[], Path]) -> Artifact:
            file = make()
            return patiently(lambda: self._artifacts.put(job.id, context.fence, file.name, file), OSError)

        made: dict[str, Callable[[], Path]] = {
            "video": lambda: video,
            "thumbnail": partial(previews.save_thumbnail, video.parent),
            "spritesheet": partial(previews.save_spritesheet, video.parent),
        }
        # At once: three files take about the time of one.
        with ThreadPoolExecutor(len(made), "videosvc-store") as threads:
            stored = {variant: threads.submit(put, make) for variant, make in made.items()}
            meanwhile()
            return {variant: artifact.result().as_dict() for variant, artifact in stored.items()}

    def _learn(self, observe: Callable[[], None]) -> None:
        try:
            observe()
        except OSError as error:  # quotes become no better; the clip is none the worse
            log.warning("nothing was learnt of a job's cost: %s", error)


def _run_briefly(plan: Plan, engine: Engine) -> None:
    """A step of each of the first two chunks, for nobody: a loaded model's first clip takes longer, and quotes are for
    the later ones."""
    spec = engine.family.spec
    frames = min(plan.frames, spec.frames_of(0, spec.first_chunk + spec.chunk))
    brief = replace(
        plan,
        prompt=WARM_UP_PROMPT,
        seconds=frames / plan.fps,
        steps=1,
        sampler="flow_map",  # to a model without one an Euler step
        draft_threshold=None,
        later_steps=None,
        step_cache="none",
        input_reference=None,
    )
    with scratch_folder() as work:
        for _ in engine.run(brief, work / "video.mp4"):
            pass


def _warm_up(plan: Plan, engine: Engine) -> None:
    """Before a job. What cannot run, that will say."""
    try:
        _run_briefly(plan, engine)
    except (GenerationError, RuntimeError) as error:
        log.warning("model %s is not warm: %s", plan.model, error)


def _shape(plan: Plan) -> tuple[object, ...]:
    """What clips must have in common to be denoised in one batch."""
    return plan.model, plan.loading, plan.size


def _measured(attempt: Attempt, spent: ComputeReceipt, energy: EnergyMeter) -> Energy | None:
    """What the counter says of the job. It must have seen all of that, and nothing else: nobody who shared forwards."""
    return None if spent.resumed or attempt.lost_s else energy.read()


def _with_receipt(
    ended: Outcome, quote: Quote, spent: ComputeReceipt, receipt: dict[str, Any], warnings: list[str]
) -> Outcome:
    return replace(
        ended,
        compute_s=receipt["compute_seconds"],  # as shown, so that usage adds up to receipts
        result={"receipt": receipt, "size": quote.plan.size},
        detail={"plan": plan_as_run(spent, quote), "warnings": warnings},
    )


def _failure(job: Job, error: Exception) -> Outcome | None:
    """How a job ends that failed so, on the house. None: it is no fault of the job."""
    match error:
        case EncoderStopped():
            return None
        case GenerationError():
            return _failed("generation_failed", str(error))
        case UnknownModel():
            return _failed("unknown_model", error.message)
        case ModelError():
            return _failed("model_unavailable", error.message)
        case UserError():
            return _failed("invalid_request", error.message)
    if not is_out_of_memory(error):
        return None
    log.warning("job %s: %s", job.id, error)
    return _failed(OUT_OF_MEMORY, "the device ran out of memory; ask for a smaller size")


def _failed(code: str, message: str, charge_usd: Decimal = Decimal(0)) -> Outcome:
    return Outcome(Status.FAILED, charge_usd, error_code=code, error_message=message)

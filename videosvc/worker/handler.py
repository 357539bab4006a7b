"""From a job of the queue to its outcome: an MP4 with its previews and a receipt, or the reason why not."""

from __future__ import annotations

import logging
import tempfile
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from videosvc.artifacts.previews import ClipPreviews
from videosvc.artifacts.store import ArtifactStore
from videosvc.config.models import ModelEntry, load_model
from videosvc.config.reload import LiveConfig
from videosvc.engine.meter import ComputeReceipt
from videosvc.engine.plan import Plan
from videosvc.errors import ComputeCapExceeded, GenerationError, ModelError, UnknownModel, UserError
from videosvc.pricing.cost_model import CostModel
from videosvc.pricing.energy import Energy, EnergyMeter
from videosvc.pricing.quote import Quote, charge
from videosvc.pricing.receipt import full_receipt, plan_as_run
from videosvc.worker.attempt import Attempt
from videosvc.worker.checkpoints import CheckpointFolder
from videosvc.worker.memory import free_memory, is_out_of_memory
from videosvc.worker.warm_models import WarmModels
from videosvc_queue.context import Cancelled, Context
from videosvc_queue.job import Job, Status
from videosvc_queue.runner import Outcome

log = logging.getLogger(__name__)

NO_MEMORY = Outcome(
    Status.FAILED,
    Decimal(0),
    error_code="out_of_memory",
    error_message="the device ran out of memory; ask for a smaller size",
)


class VideoHandler:
    """Runs jobs, one at a time. What it raises is no fault of the job: the queue has it tried again."""

    def __init__(
        self,
        config: LiveConfig,
        models: WarmModels,
        costs: CostModel,
        artifacts: ArtifactStore,
        checkpoints: CheckpointFolder,
        retention_s: float,
    ) -> None:
        """`costs`: of the device of `models`; `retention_s`: how long artifacts are kept."""
        self._config = config
        self._models = models
        self._costs = costs
        self._artifacts = artifacts
        self._checkpoints = checkpoints
        self._retention_s = retention_s

    def warm_up(self, plan: Plan) -> None:
        """Loads the plan's model and runs the plan once, for nobody: a process's first clip takes longer.

        Raises ModelError if the model cannot be loaded, GenerationError if it cannot run.
        """
        engine = self._models.get(load_model(self._config.folder, plan.model), plan.weights)
        with tempfile.TemporaryDirectory(prefix="videosvc-") as work:
            for _ in engine.run(plan, Path(work, "video.mp4")):
                pass

    def __call__(self, job: Job, context: Context) -> Outcome:
        """Raises LeaseLost, GiveBack, OSError (a full disk, an artifact store that is away)."""
        self._checkpoints.tidy()
        try:
            outcome = self._make(job, context, Quote.parse(job.payload["quote"]))
        except GenerationError as error:
            outcome = _failed("generation_failed", str(error))
        except UnknownModel as error:
            outcome = _failed("unknown_model", error.message)
        except ModelError as error:
            outcome = _failed("model_unavailable", error.message)
        except UserError as error:
            outcome = _failed("invalid_request", error.message)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            log.warning("job %s: %s", job.id, error)
            outcome = NO_MEMORY
        if outcome is NO_MEMORY:
            free_memory()  # not sooner: see there
        self._checkpoints.remove(job.id)
        return outcome

    def _make(self, job: Job, context: Context, quote: Quote) -> Outcome:
        context.check()  # before a model is loaded for nothing
        plan, limit_s = quote.plan, quote.max_compute_s
        self._config.refresh()  # an edit counts from the next job on
        entry = load_model(self._config.folder, plan.model)
        cold = not self._models.is_warm(plan.model, plan.weights)
        engine = self._models.get(entry, plan.weights)
        cap = None if limit_s is None else self._costs.compute_cap(plan, entry, limit_s, cold)
        attempt = Attempt(job, context, quote, engine, self._checkpoints)
        energy = EnergyMeter(engine.family.device)
        with tempfile.TemporaryDirectory(prefix="videosvc-") as work:
            video = Path(work, "video.mp4")
            try:
                receipt = attempt.run(video, cap)
            except Cancelled:
                return _billed(Status.CANCELLED, quote, attempt.receipt(), energy.read(), attempt.lost_s)
            except ComputeCapExceeded as error:
                ended = _billed(Status.FAILED, quote, attempt.receipt(), energy.read(), attempt.lost_s)
                return replace(ended, error_code=error.code, error_message=str(error))
            ended = _billed(Status.COMPLETED, quote, receipt, energy.read(), attempt.lost_s)
            artifacts = self._keep(job, context, video, attempt.previews)
        self._learn(plan, entry, receipt, cold)
        expires_at = time.time() + self._retention_s
        return replace(ended, result={"artifacts": artifacts, **ended.result}, expires_at=expires_at)

    def _keep(self, job: Job, context: Context, video: Path, previews: ClipPreviews) -> dict[str, Any]:
        """Stores the clip and its previews; the `artifacts` of the result."""
        thumbnail, spritesheet = previews.save(video.parent)
        files = {"video": video, "thumbnail": thumbnail, "spritesheet": spritesheet}
        return {
            variant: self._artifacts.put(job.id, context.fence, file.name, file).as_dict()
            for variant, file in files.items()
        }

    def _learn(self, plan: Plan, entry: ModelEntry, receipt: ComputeReceipt, cold: bool) -> None:
        try:
            self._costs.observe(plan, entry, receipt, cold)
        except OSError as error:  # quotes become no better; the clip is none the worse
            log.warning("nothing was learnt of a job's cost: %s", error)


def _billed(
    status: Status, quote: Quote, receipt: ComputeReceipt, energy: Energy | None, lost_s: float
) -> Outcome:
    """Charged for what ran."""
    return Outcome(
        status,
        charge(receipt.compute_seconds, quote),
        receipt.compute_seconds,
        {"receipt": full_receipt(receipt, quote, energy, lost_s), "size": quote.plan.size},
        {"plan": plan_as_run(receipt, quote)},
    )


def _failed(code: str, message: str) -> Outcome:
    """On the house."""
    return Outcome(Status.FAILED, Decimal(0), error_code=code, error_message=message)

"""A worker process: one device, the models of models.toml, jobs one after the other until it is told to stop.

torch is not imported here: the process that talks to Redis stays small, and only its child may touch the GPU.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from videosvc.config.models import AUTO, load_model, load_models
from videosvc.config.presets import load_presets
from videosvc.config.reload import LiveConfig, live_config
from videosvc.config.request import Request, resolve_plan
from videosvc.config.settings import Settings
from videosvc.engine.loading import device_name, pick_device
from videosvc.engine.plan import Plan
from videosvc.errors import ConfigError, GenerationError, ModelError, UserError
from videosvc.migrate import migrate
from videosvc.worker.cpu_share import share_cpu
from videosvc.worker.refused_levers import refused_levers
from videosvc_queue.runner import Handler
from videosvc_queue.store import Store
from videosvc_queue.ticker import Ticker
from videosvc_queue.worker_process import WorkerOptions, worker_main

log = logging.getLogger(__name__)

MAX_MODELS = 2  # kept loaded at once; on a device where two do not fit, one is given up for the other
TIDY_S = 3600.0  # between two looks for old checkpoints


def run_worker(settings: Settings, folder: Path) -> int:
    """Works on jobs until SIGTERM or SIGINT; returns the exit code. `folder`: configuration.

    Raises ConfigError if there is no Redis to listen to, or no such device or data folder, UserError if the database is
    of a later version.
    """
    if settings.redis_url is None:
        message = "redis_url: a worker needs its service's Redis, such as redis://localhost:6379/0"
        raise ConfigError(message, param="redis_url")
    routes = tuple(load_models(folder))
    named = _device_name(settings.device)
    settings.make_data_dir()
    with Store(settings.database_url) as store:
        migrate(store)
    options = WorkerOptions(
        name=f"{settings.device.replace(':', '')}-{os.getpid()}@{socket.gethostname()}",
        routes=routes,
        device=named,
        database_url=settings.database_url,
        redis_url=settings.redis_url,
        drain_s=settings.drain_s,
        beat_s=settings.lease_s / 6,
    )
    with live_config(folder) as config:

        def begin() -> Handler:
            handler = make_handler(settings, config, named)
            tidy(settings)
            return handler

        return worker_main(options, begin, figures, lambda: refused(settings, config.folder))


def make_handler(settings: Settings, config: LiveConfig, named: str) -> Handler:
    """Called in the process that computes. Raises UserError.

    When it returns, the default model is loaded, and warm, and what the compiled levers of all presets need, for each
    model that takes them, is on the disk, the first ones' in memory: jobs are not taken before, so that no job's steps
    share the device with a compiler.
    """
    if named == "cpu":
        share_cpu()
    from videosvc.artifacts.store import ArtifactStore
    from videosvc.pricing.calibration import NOT_CALIBRATED
    from videosvc.pricing.cost_model import CostModel
    from videosvc.worker.checkpoints import CheckpointFolder
    from videosvc.worker.handler import VideoHandler
    from videosvc.worker.warm_models import WarmModels

    costs = CostModel(settings.data_dir, named)
    handler = VideoHandler(
        config,
        WarmModels(settings.device, MAX_MODELS, settings.data_dir / "quantized"),
        costs,
        ArtifactStore(settings.artifact_url),
        CheckpointFolder(settings.data_dir / "checkpoints"),
        settings.retention_s,
        settings.max_batch,
    )
    default, *others = warm_up_plans(config.folder, settings)
    # Jobs come in threads of their own. OpenMP's threads stay with the thread that had them first, until it ends: were
    # there any for this one, there would be more than cores, and OpenMP lets them sleep at every barrier then.
    with ThreadPoolExecutor(1) as thread:
        for plan in reversed(others):  # the first ones last: they are the ones to stay, where not all can
            try:
                thread.submit(handler.warm_up, plan).result()
            except (ModelError, GenerationError, RuntimeError) as error:  # its jobs will hear of it
                log.warning("a preset's model is not warm: %s", error)
        thread.submit(handler.warm_up, default).result()
    if not costs.fit(load_model(config.folder, default.model), default).calibrated:
        log.warning("%s is %s", named, NOT_CALIBRATED)
    log.info("ready on %s", named)
    return handler


def tidy(settings: Settings) -> None:
    """Called in the process that computes, and goes on in a thread: removes what names prompts, or shows what they
    became, and is nobody's any more. Not with each job, as none may come for days."""
    from videosvc.artifacts.scratch import tidy_scratch
    from videosvc.worker.checkpoints import CheckpointFolder

    tidy_scratch()  # of the process in whose place this one is, if that was killed
    Ticker("tidy", CheckpointFolder(settings.data_dir / "checkpoints").tidy, TIDY_S).start()


def warm_up_plans(folder: Path, settings: Settings) -> list[Plan]:
    """The default preset's, and one for each set of levers to compile a model with, the default one first.

    Where the default model is whichever does it cheapest, that is the first one of models.toml.

    Raises UserError if the default preset or model is none.
    """

    def plan_of(request: Request) -> Plan:
        return resolve_plan(request, folder, settings).plan

    models = load_models(folder)
    default = plan_of(Request("a red ball", model=next(iter(models)) if settings.model == AUTO else None, seed=0))
    plans = {(default.model, default.loading): default}
    compiled = [name for name, preset in load_presets(folder).items() if preset.levers.compile]
    for entry in sorted(models.values(), key=lambda entry: entry.name != default.model):
        for name in compiled:
            with contextlib.suppress(UserError):  # it is for other models
                plan = plan_of(Request("a red ball", model=entry.name, preset=name, size=entry.sizes[0], seed=0))
                plans.setdefault((plan.model, plan.loading), plan)
    return list(plans.values())


def refused(settings: Settings, folder: Path) -> dict[str, str]:
    """Called in the process that computes, once: the levers that its device cannot take, and why."""
    models = load_models(folder).values()
    with ThreadPoolExecutor(1) as thread:  # as in `make_handler`
        return thread.submit(refused_levers, pick_device(settings.device), models).result()


def figures() -> dict[str, int]:
    """Called in the process that computes: what it has counted, for metrics."""
    from videosvc.families.prompt_encoder import remembered

    return {f"prompt_cache_{kind}": count for kind, count in remembered.items()}


def _device_name(setting: str) -> str:
    """A GPU is asked for its name in a process of its own, which loads torch for it. Raises ConfigError."""
    if setting == "cpu":
        return setting
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(device_name, setting).result()

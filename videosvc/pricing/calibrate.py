"""Measures a device: runs small real clips, and fits seconds to work."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_hex
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from scipy.optimize import nnls

from videosvc.config.models import AttentionName, ModelEntry
from videosvc.config.size import Size
from videosvc.engine.events import ChunkDone, Done, Event, StepDone
from videosvc.engine.generate import Engine
from videosvc.engine.plan import Plan
from videosvc.families.device_label import device_label
from videosvc.pricing.calibrate_batch import batch_shares
from videosvc.pricing.calibration import Calibration, fingerprint_of, levers_of, versions
from videosvc.pricing.coefficients import Coefficients
from videosvc.pricing.features import FEATURES, Features, Kind, RunFeatures, run_features
from videosvc.pricing.shape import ModelShape, read_shape

STEPS = (1, 4)
CHUNKS = (1, 4)
ROUNDS = 6
LIMIT_S = 40.0  # after a first round nothing new is begun later than this
LEAST_SECONDS = 1e-6  # what took nothing measurable

Observations = dict[Kind, dict[Features, list[float]]]  # seconds of pieces of the same work


@dataclass(frozen=True, slots=True)
class _Measured:
    """One clip of the grid."""

    plan: Plan
    pieces: tuple[tuple[Kind, Features, float], ...]
    total_s: float


def calibrate(
    engine: Engine,
    entry: ModelEntry,
    plan: Plan,
    on_progress: Callable[[float], None] = lambda share: None,
    attention: AttentionName = "native",
) -> Calibration:
    """Fits the cost of `plan`'s model and levers on the engine's device; under a minute for the bundled model.

    Every round runs the whole grid once, so that a slow spell of the machine falls on all of it alike; medians over
    rounds and pieces keep single stalls out. `on_progress` is told the share that is done, from 0 to 1.
    `attention`: the kernel that the engine attends by. Raises what `Engine.run` raises.
    """
    shape = read_shape(entry)
    grid = _grid(plan, entry, shape)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "clip.mp4"
        begun = time.monotonic()
        cold = _run(engine, grid[0], shape, file)
        for warming in grid[1:]:  # the first clip of each size sets up kernels
            _run(engine, warming, shape, file)
        measured: list[_Measured] = []
        for turn in range(ROUNDS):
            for number, point in enumerate(grid):
                if turn == 0 or time.monotonic() - begun < LIMIT_S:
                    measured.append(_run(engine, point, shape, file))
                on_progress((turn + (number + 1) / len(grid)) / ROUNDS)
    seconds = fit_seconds(piece for clip in measured for piece in clip.pieces)
    coefficients = Coefficients(**{kind: tuple(by_feature.values()) for kind, by_feature in seconds.items()})

    def fitted_s(clip: Plan) -> float:
        return coefficients.costs(run_features(clip, shape), 1.0, 0.0, 1.0).total_s(clip.steps)

    return Calibration(
        device=device_label(engine.family.device),
        model=entry.name,
        levers=levers_of(plan),
        fingerprint=fingerprint_of(shape.model_hash, entry.loading, attention),
        versions=versions(),
        measured_at=time.time(),
        seconds=seconds,
        cold_s=max(0.0, cold.total_s - fitted_s(cold.plan)),
        residuals=tuple(clip.total_s / fitted_s(clip.plan) for clip in measured),
        batch=batch_shares(engine, entry, plan),
    )


def fit_seconds(pieces: Iterable[tuple[Kind, Features, float]]) -> dict[Kind, dict[str, float]]:
    """Seconds a unit of each feature takes, none below zero, from pieces with the seconds they took.

    Least squares of relative errors: a tenth too much is as bad for a small piece as for a large one.
    """
    observed: Observations = {kind: defaultdict(list) for kind in FEATURES}
    for kind, features, seconds in pieces:
        observed[kind][features].append(seconds)
    fitted: dict[Kind, dict[str, float]] = {}
    for kind, by_work in observed.items():
        work = np.array(list(by_work))
        took = np.array([max(LEAST_SECONDS, median(times)) for times in by_work.values()])
        solution, _ = nnls(work / took[:, None], np.ones(len(took)))
        fitted[kind] = dict(zip(FEATURES[kind], map(float, solution), strict=True))
    return fitted


def _grid(plan: Plan, entry: ModelEntry, shape: ModelShape) -> list[Plan]:
    """Short clips of `plan`'s kind: all sizes of the model's list, few and more steps, one chunk and several."""
    plans = []
    for size in map(Size.parse, entry.sizes):
        for steps, chunks in zip(STEPS, CHUNKS, strict=True):
            frames = shape.spec.frames_of(0, shape.spec.first_chunk + (chunks - 1) * shape.spec.chunk)
            seconds = min(frames / entry.fps, entry.max_seconds)
            # A step of any sampler is a forward, and only the flow map takes as few of them as these (to a model
            # without one they are Euler steps). What a step cache skips is not counted on.
            changed = replace(plan, steps=steps, sampler="flow_map", draft_threshold=None, later_steps=None)
            shown = replace(changed, width=size.width, height=size.height, fps=entry.fps, seconds=seconds)
            plans.append(replace(shown, step_cache="none"))
    return plans


def _run(engine: Engine, plan: Plan, shape: ModelShape, file: Path) -> _Measured:
    # Texts of their own: the engine remembers those that it has encoded.
    plan = replace(plan, prompt=token_hex(4), negative_prompt=token_hex(4))
    events = list(engine.run(plan, file))
    done = events[-1]
    assert isinstance(done, Done)
    pieces = tuple(_pieces(events, run_features(plan, shape), done))
    return _Measured(plan, pieces, done.receipt.compute_seconds)


def _pieces(events: Sequence[Event], work: RunFeatures, done: Done) -> Iterable[tuple[Kind, Features, float]]:
    """What each piece of a finished run took, from what its checkpoints had spent."""
    spent = {"text": 0.0, "denoise": 0.0, "decode": 0.0, "mux": 0.0}
    last = len(work.chunks) - 1
    for event in events:
        if not isinstance(event, StepDone | ChunkDone):
            continue
        took = {stage: seconds - spent[stage] for stage, seconds in event.checkpoint.spent.items()}
        spent = dict(event.checkpoint.spent)
        chunk = work.chunks[event.chunk]
        if took["text"] > 0:
            yield "text", work.text, took["text"]
        if isinstance(event, StepDone) or event.chunk < last:  # taking a chunk into the cache is a forward, too
            yield "denoise", chunk.append if isinstance(event, ChunkDone) else chunk.denoise, took["denoise"]
        if isinstance(event, ChunkDone):
            yield "decode", chunk.decode, took["decode"]
            yield "mux", chunk.mux, took["mux"]
    yield "finish", work.finish, done.receipt.by_stage["mux"] - spent["mux"]

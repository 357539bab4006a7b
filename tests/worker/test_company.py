"""Jobs that a worker runs at once on one model: which may, and what comes of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from videosvc.engine import batch
from videosvc.pricing.quote import Quote
from videosvc.worker.handler import VideoHandler
from videosvc_queue.company import Threads, run_company
from videosvc_queue.drain import Drain
from videosvc_queue.job import Job, Status
from videosvc_queue.store import Store


@pytest.fixture
def sociable(queue: Store, handler: VideoHandler) -> VideoHandler:
    handler.most = 4
    return handler


def test_only_what_pays_joins(
    sociable: VideoHandler, quoted: Any, submitted: Any, measured: Callable[..., None]
) -> None:
    quote = quoted()
    running = submitted(quote)

    def joins(other: Quote, *more: Job) -> bool:
        return sociable.joins([running, *more], submitted(other))

    assert not joins(quoted(seed=8))  # nothing was measured
    measured(quote)
    assert not joins(quoted(seed=8))  # and the model is not loaded
    sociable.warm_up(quote.plan)
    assert joins(quoted(seed=8))
    assert joins(quoted(seed=9, seconds=1.0, prompt="the sea"))
    assert not joins(quoted(seed=8, size="96x96"))
    assert not joins(quoted(seed=8), submitted(quote))  # two were measured, not three
    int8 = replace(quote, plan=replace(quote.plan, weights="int8"))
    assert not joins(int8)
    measured(quote, share=0.97)
    assert not joins(quoted(seed=8))
    measured(quote)
    sociable.most = 1
    assert not joins(quoted(seed=8))
    broken = replace(running, payload={"quote": {"plan": {}}})
    assert not sociable.joins([running], broken)


def test_together_they_become_what_they_are_alone(
    queue: Store, bus: Any, sociable: VideoHandler, quoted: Any, submitted: Any, measured: Callable[..., None],
    whole: Any, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The frames that each job's muxer gets, in company and alone."""
    monkeypatch.setattr(batch, "LEAST_PATIENCE_S", 60.0)
    frames: dict[str, list[Tensor]] = {}
    write = "videosvc.engine.generate.Mp4Writer.write"
    monkeypatch.setattr(write, _noting(frames))
    quotes = [quoted(seed=seed, seconds=4.0, prompt=prompt) for seed, prompt in enumerate(("a red circle", "the sea"))]
    measured(quotes[0])
    sociable.warm_up(quotes[0].plan)
    frames.clear()
    _hold_until_two_denoise(monkeypatch)
    jobs = [submitted(quote) for quote in quotes]
    with closing(Threads()) as threads:
        ran = run_company(queue, bus, sociable, sociable, ["toyworld"], "worker-1", threads=threads, drain=Drain())
    assert ran == 2
    together = [torch.cat(pieces) for pieces in frames.values()]
    ended = [queue.get(job.id) for job in jobs]
    for job in ended:
        assert job is not None and job.status is Status.COMPLETED and job.result is not None
        receipt = job.result["receipt"]
        levers = {lever["name"]: lever["saved_compute_seconds"] for lever in receipt["levers"]}
        assert 0 < levers["batch"] <= receipt["by_stage"]["denoise"]  # at a share of a half
        assert 0 < receipt["charged_usd"] <= receipt["quoted_usd"]
    monkeypatch.undo()
    alone = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, _noting(frames))
        for quote in quotes:
            frames.clear()
            whole(quote)
            alone += [torch.cat(pieces) for pieces in frames.values()]
    assert len(together) == len(alone) == 2
    for clip in alone:
        apart = [(clip.int() - other.int()).abs().max() for other in together]
        assert min(apart) <= 1  # of 255: where a rounding falls to the other side


def _noting(frames: dict[str, list[Tensor]]) -> Callable[[Any, Tensor], None]:
    def write(writer: Any, pictures: Tensor) -> None:
        frames.setdefault(str(writer._path), []).append(pictures)
        writer._process.stdin.write(pictures.contiguous().numpy().data)

    return write


def _hold_until_two_denoise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first to open its clip waits for the second: however slowly one of them starts, they meet."""
    both = threading.Barrier(2)
    seat = batch.Batch.seat

    def waiting(self: batch.Batch) -> Any:
        both.wait(60)
        return seat(self)

    monkeypatch.setattr(batch.Batch, "seat", waiting)

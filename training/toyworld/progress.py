"""What every training stage shares: a time budget, checkpoints it can go on from, and one line a minute."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn


def beneath(folder: Path, *models: nn.Module) -> Path:
    """The folder for what is made with these models as they are: made with others it would be another."""
    digest = hashlib.sha256()
    for model in models:
        for value in model.state_dict().values():
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    below = folder / digest.hexdigest()[:12]
    below.mkdir(exist_ok=True)
    return below


class Stage:
    """A training stage that runs for `budget_s` seconds in all, over as many starts as it takes.

    Iterating yields (step, done) with `done` from 0 to 1; the share of the time budget used drives every schedule, so
    that a slow machine and a fast one both come to the end of theirs.
    """

    def __init__(self, folder: Path, name: str, budget_s: float, state: dict[str, nn.Module | torch.optim.Optimizer]):
        self.path = folder / f"{name}.pt"
        self.log_path = folder / f"{name}.jsonl"
        self.name, self.budget_s, self.state = name, budget_s, state
        self.step, self.spent_s = 0, 0.0
        self._figures: dict[str, tuple[float, int]] = {}
        if self.path.exists():
            saved = torch.load(self.path, map_location="cpu", weights_only=True)
            self.step, self.spent_s = saved["step"], saved["spent_s"]
            try:
                for key, part in state.items():
                    part.load_state_dict(saved[key])
            except (KeyError, RuntimeError, ValueError) as error:
                message = f"{self.path}: is of another version of this stage; remove it to begin the stage anew"
                raise SystemExit(message) from error

    def save(self) -> None:
        saved = {key: part.state_dict() for key, part in self.state.items()}
        temporary = self.path.with_suffix(".tmp")
        torch.save({"step": self.step, "spent_s": self.spent_s, **saved}, temporary)
        os.replace(temporary, self.path)

    def log(self, **figures: float) -> None:
        """Averages the figures of the steps since the last line."""
        for key, value in figures.items():
            total, count = self._figures.get(key, (0.0, 0))
            self._figures[key] = (total + value, count + 1)

    def _write_line(self) -> None:
        line: dict[str, float] = {"step": self.step, "spent_s": round(self.spent_s)}
        line |= {key: round(total / count, 5) for key, (total, count) in sorted(self._figures.items())}
        self._figures = {}
        with self.log_path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(self.name, line, flush=True)

    def __iter__(self) -> Iterator[tuple[int, float]]:
        last = written = saved = time.monotonic()
        while self.spent_s < self.budget_s:
            yield self.step, self.spent_s / self.budget_s
            now = time.monotonic()
            self.step, self.spent_s, last = self.step + 1, self.spent_s + now - last, now
            if now - written > 60 and self._figures:
                self._write_line()
                written = now
            if now - saved > 180:
                self.save()
                saved = last = time.monotonic()
        if self._figures:
            self._write_line()
        self.save()


def learning_rate(done: float, peak: float, step: int, warmup: int = 100) -> float:
    """Linear warm-up over `warmup` steps, then constant, then down to a fiftieth over the last 40 % of the budget."""
    return peak * min((step + 1) / warmup, max(0.02, min(1.0, (1.0 - done) / 0.4)))

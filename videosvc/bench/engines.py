"""Our engine as each row loads it, and what of a row it can run here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from videosvc.bench.clips import Made, encode_seconds, make_ours, make_together
from videosvc.bench.rows import Rung
from videosvc.config.levers import refusal
from videosvc.config.models import ModelEntry
from videosvc.engine.generate import Engine
from videosvc.engine.loading import open_engine
from videosvc.engine.plan import Plan
from videosvc.errors import GenerationError, ModelError
from videosvc.families.load_levers import LoadLevers

TRIAL_STEPS = 2  # of a clip that only warms up


@dataclass(slots=True)
class Engines:
    """Loaded when first asked for."""

    entry: ModelEntry
    device: str
    quantized: Path  # a folder to keep quantised weights in
    _open: dict[LoadLevers, Engine] = field(default_factory=dict)
    _text_s: dict[tuple[Engine, int], float] = field(default_factory=dict)  # by engine and seed

    @property
    def plain(self) -> Engine:
        """With no lever pulled."""
        return self._load(LoadLevers())

    def of(self, plan: Plan) -> Engine:
        """The one that runs `plan`. Raises ModelError if a lever cannot be."""
        return self._load(plan.loading)

    def _load(self, levers: LoadLevers) -> Engine:
        if levers not in self._open:
            self._open[levers] = open_engine(self.entry, self.device, levers, self.quantized)
        return self._open[levers]

    def refusal(self, plan: Plan, folder: Path) -> str | None:
        """Why `plan` cannot run here, in one line. What could is tried with a few steps, which warms up as well."""
        if plan.guidance_scale == 1.0 and self.entry.defaults.guidance_scale > 1.0:
            return f"guidance is not folded into the weights of {self.entry.name}"
        pulled = {"weights": plan.weights, "frame_cache": plan.frame_cache, "decode": plan.decode}
        for lever, value in {**pulled, "compile": str(plan.compile).lower()}.items():
            if line := refusal(self.entry.family, lever, value):
                return line
        return tried(lambda: make_ours(self.of(plan), replace(plan, steps=TRIAL_STEPS), folder / "trial.mp4"))

    def make(self, rung: Rung, prompt: str, seed: int, folder: Path) -> Made:
        """The rung's clip, its text counted as if nobody had asked for it before."""
        plan = replace(rung.plan, prompt=prompt, seed=seed)
        engine = self.of(plan)
        engine.family.encode_text(prompt, None)  # else the first row that has it would pay for all
        key = (engine, seed)
        if key not in self._text_s:
            self._text_s[key] = encode_seconds(engine.family)
        if rung.clips > 1:
            return make_together(engine, plan, folder, rung.clips, self._text_s[key])
        return make_ours(engine, plan, folder / "clip.mp4", self._text_s[key])


def tried(work: Callable[[], object]) -> str | None:
    """Why it cannot be, in one line: a lever refused, no memory, or no kernel for it on this device."""
    try:
        work()
    except (ModelError, GenerationError, RuntimeError) as error:
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    return None

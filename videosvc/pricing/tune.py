"""Sweeps a model's settings: what each costs, and how good its clips are."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from videosvc.config.size import Size
from videosvc.engine.events import Done
from videosvc.engine.generate import Engine
from videosvc.engine.plan import Plan
from videosvc.families.load_levers import LoadLevers
from videosvc.pricing.clip_frames import Frames, read_frames
from videosvc.pricing.finding import Finding, Findings
from videosvc.pricing.rate import Rate
from videosvc.pricing.scores import Score
from videosvc.pricing.setting import Setting


@dataclass(frozen=True, slots=True)
class Tuner:
    """Everything that stays the same during a sweep."""

    engines: Mapping[LoadLevers, Engine]  # by what they were loaded with; none of them for the references
    base: Plan  # length, guidance and whatever else is not swept
    score: Score
    rate: Rate
    seed: int  # clip number n is made of seed + n

    def run(
        self,
        settings: Sequence[Setting],
        references: Sequence[Setting],
        prompts: Sequence[str],
        on_progress: Callable[[float], None] = lambda share: None,
    ) -> Findings:
        """A clip of each prompt in each setting. `references`: many steps at each size, made with no lever pulled; the
        last is what qualities are held against.

        For one prompt after the other all settings take their turn, in random order, so that a slow spell of the
        machine falls on all alike. `on_progress` is told the share that is done. Raises what `Engine.run` raises.
        """
        everything = list(dict.fromkeys([*references, *settings]))
        rest = everything[len(references) :]
        bases = dict.fromkeys(everything, self.base) | dict.fromkeys(references, replace(self.base, compile=False))
        qualities: dict[Setting, list[float]] = {setting: [] for setting in everything}
        compute_s: dict[Setting, list[float]] = {setting: [] for setting in everything}
        chance = random.Random(self.seed)
        done = 0

        with TemporaryDirectory() as folder:
            file = Path(folder) / "clip.mp4"
            self._warm_up([setting.plan(base, prompts[0], self.seed) for setting, base in bases.items()], file)

            def make(setting: Setting) -> Frames:
                nonlocal done
                plan = setting.plan(bases[setting], prompt, self.seed + number)
                took_s, frames = self._make(plan, file)
                compute_s[setting].append(took_s / plan.clip_seconds)
                done += 1
                on_progress(done / (len(everything) * len(prompts)))
                return frames

            for number, prompt in enumerate(prompts):
                compared = {reference: make(reference) for reference in references}
                judge = self.score.judge(number, prompt, {at.size: frames for at, frames in compared.items()})
                for reference, frames in compared.items():
                    qualities[reference].append(judge(frames))
                chance.shuffle(rest)
                for setting in rest:
                    qualities[setting].append(judge(make(setting)))

        found = {
            setting: Finding.of(setting, qualities[setting], compute_s[setting], self.rate, self.score.counts)
            for setting in everything
        }
        return Findings(
            swept=tuple(found[setting] for setting in settings),
            references=tuple(found[reference] for reference in references),
        )

    def _warm_up(self, plans: Sequence[Plan], file: Path) -> None:
        """The first clip of each shape and kind of numbers sets up kernels, for which no setting is to blame."""
        by_steps = sorted(plans, key=lambda plan: -plan.steps)
        fewest = {(plan.size, plan.loading, plan.frame_cache): plan for plan in by_steps}
        for plan in fewest.values():
            self._make(plan, file)

    def _make(self, plan: Plan, file: Path) -> tuple[float, Frames]:
        """Seconds of compute, and the frames of the file that a user would get."""
        *_, done = self.engines[plan.loading].run(plan, file)
        assert isinstance(done, Done)
        return done.receipt.compute_seconds, read_frames(file, Size(plan.width, plan.height), plan.fps)

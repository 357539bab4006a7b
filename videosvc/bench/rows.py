"""The rows of the waterfall: each pulls one lever more than the one above it, or one in place of another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from videosvc.engine.plan import Plan

STOCK = "stock diffusers"  # the first row, not of our engine
FEW = 4  # steps
# For weights with guidance folded in, which this guides a second time: any scale costs the same two forwards a step,
# and a low one leaves the clip what it was. The probe read 18, 18, 20, 21 and 16 of 24 clips (10 steps) right at scales
# 1, 1.25, 1.5, 2 and 3.
GUIDANCE = 1.25
DRAFT_THRESHOLD = 0.15
TOGETHER = 4
COMPARED = "1 step after the first chunk"  # the row whose latents later ones are held against


@dataclass(frozen=True, slots=True)
class Row:
    """A lever."""

    name: str
    changes: Mapping[str, Any]  # to the plan of the row above, by field
    clips: int = 1  # at once, as a worker batches them


LADDER = (
    Row("our engine", {}),  # a frame cache of rotated keys, text keys once a clip, nothing encoded twice
    Row("guidance folded in", {"guidance_scale": 1.0}),
    Row(f"{FEW} steps", {"steps": FEW}),
    Row("draft and verify", {"sampler": "draft", "draft_threshold": DRAFT_THRESHOLD}),
    # In place of a draft, which finds out what each chunk needs.
    Row(COMPARED, {"sampler": "flow_map", "draft_threshold": None, "later_steps": 1}),
    Row("int8 weights", {"weights": "int8"}),
    Row("compiled", {"compile": True}),
    Row("int8 frame cache", {"frame_cache": "int8"}),
    Row("streamed decode", {"decode": "stream"}),
    Row(f"{TOGETHER} clips at once", {}, clips=TOGETHER),
)


@dataclass(frozen=True, slots=True)
class Rung:
    """A row on one model and device."""

    name: str
    plan: Plan  # all levers down to here that can be pulled
    clips: int = 1
    refused: str | None = None  # why this one cannot be

    @property
    def levers(self) -> dict[str, Any]:
        """What of the plan the rows are about, for JSON."""
        plan = self.plan
        return {
            "steps": plan.steps,
            "sampler": plan.sampler,
            "guidance_scale": plan.guidance_scale,
            "weights": plan.weights,
            "frame_cache": plan.frame_cache,
            "decode": plan.decode,
            "compile": plan.compile,
            "draft_threshold": plan.draft_threshold,
            "later_steps": plan.later_steps,
            "clips_at_once": self.clips,
        }


def climb(base: Plan, rows: Sequence[Row], refusal: Callable[[Plan], str | None]) -> tuple[Rung, ...]:
    """The rows from `base` on. `refusal`: why a plan cannot run here; its lever is then left out further down, too."""
    rungs = []
    plan = base
    for row in rows:
        candidate = replace(plan, **row.changes)
        refused = refusal(candidate)
        plan = plan if refused else candidate
        rungs.append(Rung(row.name, plan, row.clips, refused))
    return tuple(rungs)

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

import pytest
import torch

from tiny_model import make_tiny_checkpoint
from videosvc.config.quality import QualityTable, Sweep
from videosvc.config.size import Size
from videosvc.engine.events import Event
from videosvc.engine.generate import Engine
from videosvc.engine.plan import Plan
from videosvc.errors import UserError
from videosvc.families.anyflow_far import AnyFlowFAR
from videosvc.families.load_levers import NO_LEVERS, LoadLevers
from videosvc.pricing.clip_frames import Frames
from videosvc.pricing.finding import Findings
from videosvc.pricing.frontier_file import FIELDS, findings_of, narrowed, quality_table, sweep_of
from videosvc.pricing.rate import Rate
from videosvc.pricing.reference_score import ReferenceScore
from videosvc.pricing.scores import Judge, ScoreName
from videosvc.pricing.setting import Setting
from videosvc.pricing.tune import Tuner

RATE = Rate("cpu", Decimal("0.1"), 65.0, Decimal("0.3"), "interactive", Decimal(1))
PROMPTS = ("a red circle moves left", "a blue square moves right")
SMALL, LARGE = Size(32, 32), Size(48, 32)
REFERENCES = tuple(Setting(size, 8, 3, "euler", "native", "native") for size in (SMALL, LARGE))
SWEPT = tuple(
    Setting(size, 8, steps, "flow_map", "native", cache)
    for size in (SMALL, LARGE)
    for steps, cache in ((1, "native"), (2, "native"), (2, "int4"))
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = make_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))
    return Engine(AnyFlowFAR("tiny", folder, 1, torch.device("cpu"), torch.float32))


@pytest.fixture
def base(plan: Plan) -> Plan:
    return replace(plan, seconds=1.0)


@dataclass
class Witness:
    """Notes what it is shown; calls everything perfect."""

    name: ScoreName = "probe"
    method: str = "none"
    counts: bool = True
    rounds: list[tuple[int, str, list[Size]]] = field(default_factory=list)
    seen: list[list[Size]] = field(default_factory=list)

    def judge(self, number: int, prompt: str, references: Mapping[Size, Frames]) -> Judge:
        self.rounds.append((number, prompt, list(references)))
        seen: list[Size] = []
        self.seen.append(seen)

        def quality(clip: Frames) -> float:
            assert clip.pixels.shape[0] == 8 and clip.fps == 8
            seen.append(clip.size)
            return 1.0

        return quality


def test_measures_cost_and_quality_of_every_setting(engine: Engine, base: Plan) -> None:
    tuner = Tuner({NO_LEVERS: engine}, base, ReferenceScore(), RATE, seed=5)
    shares: list[float] = []
    found = tuner.run(SWEPT, REFERENCES, PROMPTS, shares.append)
    assert [finding.setting for finding in found.swept] == list(SWEPT)
    assert [finding.setting for finding in found.references] == list(REFERENCES)
    small, large = found.references
    assert (large.quality, large.error) == (1.0, 0.0) and 0 < small.quality < 1  # the last is the yardstick
    for finding in (*found.swept, *found.references):
        low, middle, high = finding.compute_s
        assert 0 < low <= middle <= high and finding.price_usd == RATE.price(middle)
        assert 0 <= finding.quality <= 1
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(shares) == 2 * 8
    again = tuner.run(SWEPT, REFERENCES, PROMPTS)
    assert [finding.quality for finding in again.swept] == [finding.quality for finding in found.swept]

    sweep = sweep_of(tuner, found, clips=2)
    table = quality_table("tiny", sweep, found, rates_measured=True)
    assert sweep.reference == "48x32, 3 steps of euler"
    assert [point.fps for point in table.points] == [8] * 8
    assert table.quality(replace(base, width=48, height=32, steps=2), base.fps) == max(
        finding.quality
        for finding in found.swept
        if finding.setting.frame_cache == "native" and finding.setting.size == LARGE
    )
    _comes_back_from_its_table(table, sweep, found)


def _comes_back_from_its_table(table: QualityTable, sweep: Sweep, found: Findings) -> None:
    again = findings_of(QualityTable.model_validate_json(table.model_dump_json()), sweep, fps=16)
    for kept, before in zip((*again.swept, *again.references), (*found.swept, *found.references), strict=True):
        assert kept.price_usd == pytest.approx(before.price_usd, rel=Decimal("1e-5"))  # six digits are kept
        assert replace(kept, price_usd=before.price_usd) == before
    everything: dict[str, str | None] = dict.fromkeys(FIELDS)
    assert narrowed(again, everything) == again.swept
    some = narrowed(again, everything | {"sizes": " 48x32", "frame_caches": "native", "steps": "2,1"})
    assert [(one.setting.size, one.setting.steps) for one in some] == [(LARGE, 2), (LARGE, 1)]
    assert narrowed(again, everything | {"samplers": "euler"}) == again.references
    with pytest.raises(UserError, match="weights: 'int8' was not measured; there are native") as refused:
        narrowed(again, everything | {"weights": "int8"})
    assert refused.value.param == "weights"


def test_takes_one_prompt_after_the_other_with_all_settings_in_turn(engine: Engine, base: Plan) -> None:
    witness = Witness()
    Tuner({NO_LEVERS: engine}, base, witness, RATE, seed=0).run(SWEPT, REFERENCES, PROMPTS)
    assert witness.rounds == [(0, PROMPTS[0], [SMALL, LARGE]), (1, PROMPTS[1], [SMALL, LARGE])]
    assert all(sorted(seen) == sorted([SMALL, LARGE] * 4) for seen in witness.seen)


def test_what_is_swept_and_reference_too_is_made_once(engine: Engine, base: Plan) -> None:
    witness = Witness()
    both = (*SWEPT[:1], REFERENCES[-1])
    found = Tuner({NO_LEVERS: engine}, base, witness, RATE, seed=0).run(both, REFERENCES, PROMPTS[:1])
    assert witness.seen == [[SMALL, LARGE, SMALL]]
    assert found.references[-1:] == found.swept[1:]


def test_references_are_made_with_no_lever_pulled(engine: Engine, base: Plan) -> None:
    made: list[tuple[LoadLevers, Plan]] = []

    class Noting:
        family = engine.family

        def __init__(self, levers: LoadLevers) -> None:
            self.levers = levers

        def run(self, plan: Plan, file: Path) -> Iterator[Event]:
            made.append((self.levers, plan))
            return engine.run(replace(plan, compile=False), file)  # as if it were compiled

    engines = {levers: Noting(levers) for levers in (NO_LEVERS, LoadLevers("native", compile=True))}
    tuner = Tuner(engines, replace(base, compile=True), Witness(), RATE, seed=0)  # type: ignore[arg-type]
    tuner.run(SWEPT[:2], REFERENCES, PROMPTS[:1])
    assert {(plan.sampler, plan.compile) for _, plan in made} == {("euler", False), ("flow_map", True)}
    assert all(plan.loading == levers for levers, plan in made)

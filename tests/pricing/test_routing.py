"""Model "auto", and goals: several models, of which one is cheaper and the other better."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from known_configs import known_configs
from videosvc.config.models import AUTO
from videosvc.config.request import Request
from videosvc.config.settings import Settings
from videosvc.engine.plan import Plan
from videosvc.errors import CapTooLow, Unreachable, UserError
from videosvc.pricing.calibration import Calibration, calibration_path
from videosvc.pricing.cap import Cap
from videosvc.pricing.goal import Goal
from videosvc.pricing.planner import Planner

REQUEST = Request("a red balloon", model=AUTO, preset="quality", seed=7)
WORTH = {"toyworld": {1: 0.5, 2: 0.7, 4: 0.9, 8: 0.92}, "small": {1: 0.4, 2: 0.6, 4: 0.7, 8: 0.8}}


@pytest.fixture
def planner(
    tmp_path: Path, settings: Settings, make_planner: Callable[..., Planner], calibrated: Calibration
) -> Planner:
    """`small` takes half as long as `toyworld`."""
    folder = tmp_path / "configs"
    known_configs(folder)
    models = folder / "models.toml"
    text = models.read_text()
    entry = text[text.index("[[models]]") :]
    models.write_text(text + "\n" + entry.replace('name = "toyworld"', 'name = "small"'))
    (folder / "quality").mkdir(exist_ok=True)
    for model, worth in WORTH.items():
        points = [
            {"size": "64x64", "steps": steps, "sampler": "flow_map", "weights": "native", "frame_cache": "native",
             "quality": value}
            for steps, value in worth.items()
        ]  # fmt: skip
        (folder / "quality" / f"{model}.json").write_text(json.dumps({"model": model, "points": points}))
    made = make_planner(folder)
    plan = made.quote(replace(REQUEST, model="small")).plan
    halved = {
        kind: {name: value / 2 for name, value in by_name.items()} for kind, by_name in calibrated.seconds.items()
    }
    calibrated.model_copy(update={"model": "small", "seconds": halved}).save(
        calibration_path(settings.data_dir, "cpu", "small", plan)
    )
    return made


def test_auto_is_the_cheapest_that_does_what_is_asked_for(planner: Planner) -> None:
    quote = planner.quote(REQUEST)
    assert quote.plan.model == "small"
    assert (quote.plan.size, quote.plan.steps, quote.traded) == ("128x128", 8, ())
    assert quote.price_usd < planner.quote(replace(REQUEST, model="toyworld")).price_usd


def test_auto_takes_the_model_that_reaches_the_quality(planner: Planner) -> None:
    quote = planner.quote(REQUEST, goal=Goal(min_quality=0.85))
    assert quote.plan.model == "toyworld"
    assert (quote.plan.size, quote.plan.steps) == ("64x64", 4)  # the cheapest that does; more is not paid for
    assert quote.quality >= 0.85


def test_a_low_quality_comes_from_the_cheaper_model(planner: Planner) -> None:
    quote = planner.quote(REQUEST, goal=Goal(min_quality=0.55))
    assert quote.plan.model == "small" and quote.plan.steps < 8 and quote.quality >= 0.55


def test_under_a_cap_auto_is_the_best_and_more_money_is_never_worse(planner: Planner) -> None:
    """The cheapest answer under a cap would be the worse model, as soon as the better one finds a use for the money."""
    whole = planner.quote(replace(REQUEST, model="toyworld")).price_usd
    qualities: list[float] = []
    models = set()
    for percent in range(3, 110):
        cap = Cap(max_cost_usd=whole * percent / 100)
        try:
            quote = planner.quote(REQUEST, cap)
        except CapTooLow:
            assert not qualities
            continue
        assert cap.max_cost_usd is not None and quote.price_usd <= cap.max_cost_usd
        for model in WORTH:
            with suppress(CapTooLow):
                assert planner.quote(replace(REQUEST, model=model), cap).quality <= quote.quality
        qualities.append(quote.quality)
        models.add(quote.plan.model)
    assert qualities == sorted(qualities) and models == {"small", "toyworld"}
    kept = planner.quote(REQUEST, Cap(max_cost_usd=10 * whole, on_cap="reject"))
    assert kept.plan.model == "small", "with nothing to trade the cheapest does it"


def test_auto_looks_at_who_is_free_in_time(planner: Planner) -> None:
    def wait_s(model: str) -> float:
        return {"small": 1000.0, "toyworld": 1.0}[model]

    assert planner.quote(REQUEST, wait_s=wait_s).plan.model == "small"
    soon = planner.quote(REQUEST, goal=Goal(deadline_s=60.0), wait_s=wait_s)
    assert soon.plan.model == "toyworld" and soon.eta_s == pytest.approx(1.0 + soon.bound_s)


def test_a_deadline_is_kept_by_a_cheaper_plan(planner: Planner) -> None:
    whole = planner.quote(REQUEST)
    quote = planner.quote(REQUEST, goal=Goal(deadline_s=whole.bound_s / 2))
    assert quote.bound_s <= whole.bound_s / 2 and quote.traded != ()
    with pytest.raises(UserError, match=r"deadline_seconds: 1e-05 is too soon; the quickest allowed plan") as caught:
        planner.quote(REQUEST, goal=Goal(deadline_s=1e-5))
    assert caught.value.param == "deadline_seconds"


@pytest.mark.parametrize("min_quality", [None, 0.7])
@pytest.mark.parametrize("model", ["toyworld", AUTO])
def test_what_is_asked_for_and_nothing_less_is_done_in_time_or_refused(
    planner: Planner, model: str, min_quality: float | None
) -> None:
    """Though smaller plans would be."""
    request, rejecting = replace(REQUEST, model=model), Cap(on_cap="reject")
    whole = planner.quote(request)
    soon = Goal(min_quality, deadline_s=whole.bound_s / 2)
    assert planner.quote(request, goal=soon).traded != ()
    with pytest.raises(UserError, match=r"deadline_seconds: .* is too soon; the quickest allowed plan") as caught:
        planner.quote(request, rejecting, goal=soon)
    assert caught.value.param == "deadline_seconds"
    quickest_s = float(caught.value.message.split()[-2])
    kept = planner.quote(request, rejecting, goal=Goal(min_quality, deadline_s=quickest_s))
    assert (kept.plan, kept.traded) == (whole.plan, ()), "whoever allows that is not refused again"
    with pytest.raises(CapTooLow):
        planner.quote(request, replace(rejecting, max_cost_usd=whole.price_usd / 2), goal=Goal(min_quality, 1e3))


def test_auto_looks_at_who_can_do_it(planner: Planner) -> None:
    def why_not(plan: Plan) -> str | None:
        return "it does not fit" if plan.model == "small" else None

    assert planner.quote(REQUEST).plan.model == "small"
    assert planner.quote(REQUEST, why_not=why_not).plan.model == "toyworld"
    with pytest.raises(UserError, match=r"preset: 'quality' is more than any worker of model 'small' can: it does not"):
        planner.quote(replace(REQUEST, model="small"), why_not=why_not)
    with pytest.raises(UserError, match=r"preset: .* model 'toyworld' can: none can"):
        planner.quote(REQUEST, why_not=lambda plan: "none can")


def test_a_quality_out_of_reach_is_refused(planner: Planner) -> None:
    with pytest.raises(UserError, match=r"min_quality: 0\.99 is too high; model 'toyworld' reaches 0\.92"):
        planner.quote(REQUEST, goal=Goal(min_quality=0.99))


def test_a_quality_nobody_measured_is_refused(planner: Planner, tmp_path: Path) -> None:
    (tmp_path / "configs" / "quality" / "toyworld.json").unlink()
    with pytest.raises(UserError, match="min_quality: nobody measured the quality of model 'toyworld' yet"):
        planner.quote(replace(REQUEST, model="toyworld"), goal=Goal(min_quality=0.5))
    assert planner.quote(REQUEST, goal=Goal(min_quality=0.5)).plan.model == "small"  # auto passes it by


def test_a_cap_and_a_quality_that_exclude_each_other(planner: Planner) -> None:
    needed = planner.quote(REQUEST, goal=Goal(min_quality=0.9)).price_usd
    with pytest.raises(CapTooLow) as caught:
        planner.quote(REQUEST, Cap(max_cost_usd=needed / 2), goal=Goal(min_quality=0.9))
    assert caught.value.cheapest_usd == needed


def test_a_cap_nobody_keeps_tells_the_cheapest_price_of_all(planner: Planner) -> None:
    with pytest.raises(CapTooLow) as caught:
        planner.quote(REQUEST, Cap(max_cost_usd=Decimal("1e-12")))
    cheapest = planner.quote(REQUEST, Cap(max_cost_usd=caught.value.cheapest_usd))
    assert (cheapest.plan.model, cheapest.price_usd) == ("small", caught.value.cheapest_usd)


def test_what_no_model_can_is_refused_as_for_one(planner: Planner) -> None:
    with pytest.raises(UserError, match="seconds: 99"):
        planner.quote(replace(REQUEST, seconds=99.0))
    with pytest.raises(UserError, match="preset: 'no' is unknown"):
        planner.quote(replace(REQUEST, preset="no"))


@pytest.mark.parametrize(
    ("goal", "nearest"), [(Goal(deadline_s=1e-5), min), (Goal(min_quality=0.99), max)], ids=["deadline", "quality"]
)
def test_of_goals_that_no_model_reaches_the_nearest_is_told(
    goal: Goal, nearest: Callable[..., float], planner: Planner
) -> None:
    reached = []
    for model in ("toyworld", "small", AUTO):
        with pytest.raises(Unreachable) as refused:
            planner.quote(replace(REQUEST, model=model), goal=goal)
        reached.append(refused.value.nearest)
    assert reached[0] != reached[1] and reached[2] == nearest(reached[:2])

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from known_configs import known_configs
from videosvc.config.models import ModelEntry
from videosvc.config.request import Request, resolve_plan
from videosvc.config.settings import Settings
from videosvc.engine.plan import Plan
from videosvc.errors import ConfigError, UserError
from videosvc.pricing.calibration import Calibration, calibration_path, levers_of
from videosvc.pricing.cap import Cap
from videosvc.pricing.money import usd_up
from videosvc.pricing.planner import Planner
from videosvc.pricing.quote import Quote

QUALITY = Request("a red balloon", preset="quality", seconds=4.0, fps=16, seed=7)


def test_without_a_cap_it_is_what_was_asked_for(planner: Planner, configs: Path) -> None:
    quote = planner.quote(QUALITY)
    asked = resolve_plan(QUALITY, configs, planner._settings).plan
    assert quote.plan == asked and quote.traded == ()
    assert quote.calibrated and not quote.quality_measured
    assert quote.price_usd == usd_up(quote.rate.price(quote.bound_s))
    assert quote.bound_s == pytest.approx(1.1 * quote.compute_s)


def test_the_price_by_hand(planner: Planner) -> None:
    quote = planner.quote(QUALITY)
    by_hand = Decimal(repr(quote.bound_s)) / 3600 * Decimal("0.1") * Decimal("1.3")
    assert by_hand <= quote.price_usd <= by_hand + Decimal("1e-9")
    assert 4 * quote.price_per_second_usd >= quote.price_usd


def test_batch_is_cheaper(planner: Planner) -> None:
    now, later = planner.quote(QUALITY), planner.quote(QUALITY, tier="batch")
    assert later.price_usd == pytest.approx(now.price_usd * Decimal("0.6"), abs=Decimal("1e-9"))
    assert later.compute_s == now.compute_s
    with pytest.raises(UserError, match="tier: 'soon' is not one of interactive, batch"):
        planner.quote(QUALITY, tier="soon")


def test_a_quote_expires(planner: Planner) -> None:
    before = time.time()
    assert before + 60 <= planner.quote(QUALITY, lifetime_s=60.0).expires_at <= time.time() + 60


def test_alternatives_are_the_frontier_on_both_sides(planner: Planner) -> None:
    quote = planner.quote(Request("a red balloon", seed=7, size="96x96"))
    prices = [alternative.price_usd for alternative in quote.alternatives]
    assert prices == sorted(prices) and prices[0] < quote.price_usd < prices[-1]
    ordered = [alternative.quality for alternative in quote.alternatives]
    assert ordered == sorted(ordered) and len(set(ordered)) == len(ordered)
    assert all(
        (alternative.quality > quote.quality) == (alternative.price_usd > quote.price_usd)
        for alternative in quote.alternatives
    )


def test_savings_add_up_from_the_reference_to_the_plan(planner: Planner) -> None:
    cap = Cap(max_cost_usd=planner.quote(QUALITY).price_usd / 3)
    quote = planner.quote(QUALITY, cap)
    assert quote.baseline_s - sum(saving.saved_s for saving in quote.savings) == pytest.approx(quote.compute_s)
    assert [saving.name for saving in quote.savings][:2] == ["steps", "size"]
    reference = planner.quote(Request("a red balloon", preset="reference", seconds=4.0, fps=16, seed=7))
    assert reference.compute_s == pytest.approx(reference.baseline_s) == pytest.approx(quote.baseline_s)
    assert reference.savings == ()


def test_what_levers_save_is_told_at_one_speed_of_the_device(
    make_planner: Callable[..., Planner], calibrated: Calibration, plan: Plan, settings: Settings, entry: ModelEntry,
    tmp_path: Path,
) -> None:  # fmt: skip
    """The reference ran while it was quick, and what was asked for after it had slowed down."""
    other = replace(plan, frame_cache="int4")
    path = calibration_path(settings.data_dir, "cpu", entry.name, other)
    calibrated.model_copy(update={"levers": levers_of(other)}).save(path)
    folder = known_configs(tmp_path / "coded")
    preset = folder / "presets" / "quality.toml"
    preset.write_text(preset.read_text().replace('frame_cache = "native"', 'frame_cache = "int4"'))
    planner = make_planner(folder)
    before = planner.quote(QUALITY)
    for _ in range(5):
        planner.cost_model.observe_stopped(plan, entry, 1.0)
        planner.cost_model.observe_stopped(other, entry, 2.0)
    after = planner.quote(QUALITY)
    assert before.calibrated and [saving.name for saving in before.savings] == ["frame_cache", "steps"]
    assert after.compute_s == pytest.approx(2 * before.compute_s)
    assert after.baseline_s == pytest.approx(2 * before.baseline_s)
    for slow, quick in zip(after.savings, before.savings, strict=True):
        assert slow.saved_s == pytest.approx(2 * quick.saved_s)


def test_a_device_without_a_price_is_named(make_planner: Callable[..., Planner], tmp_path: Path) -> None:
    folder = known_configs(tmp_path / "configs")
    (folder / "devices.toml").write_text("")
    with pytest.raises(ConfigError, match=r"devices.toml: no pattern fits device 'abacus'; add one"):
        make_planner(folder, device="abacus").quote(QUALITY)


def test_a_quote_comes_back_from_json_whole(planner: Planner) -> None:
    quote = planner.quote(QUALITY, Cap(max_cost_usd=planner.quote(QUALITY).price_usd / 2))
    assert quote.traded and quote.alternatives and quote.savings
    assert Quote.parse(json.loads(json.dumps(quote.fields()))) == quote


def test_the_quote_object_is_the_contract(planner: Planner) -> None:
    shown = planner.quote(QUALITY, Cap(max_cost_usd=planner.quote(QUALITY).price_usd / 2)).as_dict()
    named = """id object expires_at model preset seconds price_usd price_per_second_usd compute_seconds eta_seconds plan
        alternatives traded"""
    assert set(named.split()) <= set(shown)
    assert shown["object"] == "quote" and shown["id"].startswith("quote_")
    assert set(shown["traded"][0]) == {"what", "from", "to", "saves_usd"}
    assert shown["plan"]["traded"] == shown["traded"]
    json.dumps(shown, allow_nan=False)


def test_it_tells_both_tiers_prices_and_an_eta_that_its_bound_keeps(planner: Planner) -> None:
    quotes = [planner.quote(QUALITY, tier=tier, wait_s=lambda model: 10.0) for tier in ("interactive", "batch")]
    for quote in quotes:
        assert quote.tier_prices == {"interactive": quotes[0].price_usd, "batch": quotes[1].price_usd}
        assert quote.as_dict()["tier_prices_usd"][quote.rate.tier] == quote.as_dict()["price_usd"]
        assert quote.eta_s == pytest.approx(10.0 + quote.bound_s)
    assert quotes[1].price_usd < quotes[0].price_usd

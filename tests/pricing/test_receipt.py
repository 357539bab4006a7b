from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from videosvc.config.request import Request
from videosvc.engine.meter import ComputeReceipt
from videosvc.pricing.energy import Energy
from videosvc.pricing.planner import Planner
from videosvc.pricing.quote import Quote, charge
from videosvc.pricing.receipt import full_receipt, partial_receipt, plan_as_run, unattended_receipt


@pytest.fixture
def quote(planner: Planner) -> Quote:
    return planner.quote(Request("a red balloon", seed=7))


def _receipt(quote: Quote, share: float, steps: tuple[int, ...] = (4, 4), wasted_s: float = 0.0) -> ComputeReceipt:
    seconds = share * quote.compute_s
    return ComputeReceipt({"text": 0.0, "denoise": seconds, "decode": 0.0, "mux": 0.0}, "cpu", False, steps, wasted_s)


@pytest.mark.parametrize("kind", ["full", "partial", "unattended"])
def test_fields_are_the_contract(kind: str, quote: Quote) -> None:
    compute = _receipt(quote, 1.0)
    receipt = {
        "full": lambda: full_receipt(compute, quote),
        "partial": lambda: partial_receipt(compute, quote, Decimal(0)),
        "unattended": lambda: unattended_receipt(quote, {}),
    }[kind]()
    named = """compute_seconds by_stage device device_usd_per_hour price_usd price_per_second_usd quoted_usd charged_usd
        energy_joules energy_source baseline_compute_seconds levers resumed wasted_compute_seconds"""
    assert set(receipt) == set(named.split())
    assert set(receipt["by_stage"]) == {"text", "denoise", "decode", "mux"}
    assert sum(receipt["by_stage"].values()) == pytest.approx(receipt["compute_seconds"], abs=1e-3)
    assert all(set(lever) == {"name", "saved_compute_seconds"} for lever in receipt["levers"])
    assert receipt["charged_usd"] <= receipt["quoted_usd"] == float(quote.price_usd)
    assert receipt["device_usd_per_hour"] == float(quote.rate.usd_per_hour)
    json.dumps(receipt, allow_nan=False)


def test_what_is_on_the_house_is_told_all_the_same(quote: Quote) -> None:
    compute = _receipt(quote, 0.5, steps=(4, 2), wasted_s=0.5)
    receipt = partial_receipt(compute, quote, Decimal(0), wasted_s=1.0)
    assert receipt["compute_seconds"] == pytest.approx(compute.compute_seconds, abs=1e-4)
    assert receipt["charged_usd"] == receipt["price_per_second_usd"] == 0 < receipt["price_usd"]
    assert receipt["wasted_compute_seconds"] == 1.5
    assert receipt["energy_joules"] == pytest.approx(65 * (compute.compute_seconds + 1.5), rel=1e-2)
    assert receipt["levers"] == [], "nothing was saved by a clip that is not there"


@given(heard=st.dictionaries(st.sampled_from(["spent_s", "lost_s"]), st.floats(0, 1e6)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_without_a_workers_word_what_was_heard_is_wasted_and_nothing_more_is_known(
    quote: Quote, heard: dict[str, float]
) -> None:
    receipt = unattended_receipt(quote, heard | ({"device": "cpu"} if heard else {}))
    assert receipt["wasted_compute_seconds"] == pytest.approx(sum(heard.values()), abs=1e-4)
    assert receipt["energy_joules"] == pytest.approx(65 * sum(heard.values()), abs=1e-3)
    assert receipt["device"] == ("cpu" if heard else None)
    for nothing in ("compute_seconds", "price_usd", "price_per_second_usd", "charged_usd"):
        assert receipt[nothing] == 0


def test_what_ran_is_charged_and_never_more_than_quoted(quote: Quote) -> None:
    half, twice = (full_receipt(_receipt(quote, share), quote) for share in (0.5, 2.0))
    assert half["charged_usd"] == half["price_usd"] < half["quoted_usd"]
    assert twice["charged_usd"] == twice["quoted_usd"] < twice["price_usd"]
    assert half["price_per_second_usd"] == pytest.approx(half["charged_usd"] / 2, abs=1e-9)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seconds=st.floats(0, 1e6))
def test_no_charge_is_above_its_quote_or_below_zero(quote: Quote, seconds: float) -> None:
    charged = charge(seconds, quote)
    assert 0 <= charged <= quote.price_usd
    assert charged == charged.quantize(Decimal("1e-9"))  # what the ledger can hold


def test_what_was_wasted_is_told_and_not_charged(quote: Quote) -> None:
    receipt = full_receipt(_receipt(quote, 1.0, wasted_s=0.5), quote, wasted_s=1.25)
    assert receipt["wasted_compute_seconds"] == 1.75
    assert receipt["charged_usd"] == full_receipt(_receipt(quote, 1.0), quote)["charged_usd"]


def test_what_sharing_forwards_saved_is_a_lever(quote: Quote) -> None:
    alone = _receipt(quote, 0.6)
    assert "batch" not in {lever["name"] for lever in full_receipt(alone, quote)["levers"]}
    shared = replace(alone, shared_s={2: 0.5 * alone.compute_seconds})
    levers = full_receipt(shared, quote, batch_saved_s=0.25)["levers"]
    assert levers[-1] == {"name": "batch", "saved_compute_seconds": 0.25}


@pytest.mark.parametrize("steps", [(4, 4), (4, 2), (1, 1)])
@pytest.mark.parametrize("step_cache", ["none", "sea"])
@pytest.mark.parametrize(("share", "batch_saved_s"), [(1.0, 0.0), (0.8, 0.0), (3.0, 0.0), (0.6, 0.2)])
def test_savings_lead_from_the_reference_to_what_was_taken(
    quote: Quote, share: float, batch_saved_s: float, step_cache: str, steps: tuple[int, ...]
) -> None:
    """However fast the device was: on a slow one they would else not go with the seconds beside them."""
    quote = replace(quote, plan=replace(quote.plan, step_cache=step_cache))
    compute = replace(_receipt(quote, share, steps), shared_s={2: 0.5} if batch_saved_s else {})
    receipt = full_receipt(compute, quote, batch_saved_s=batch_saved_s)
    saved_s = sum(lever["saved_compute_seconds"] for lever in receipt["levers"])
    assert receipt["levers"] != []
    assert receipt["baseline_compute_seconds"] - saved_s == pytest.approx(receipt["compute_seconds"], abs=1e-3)
    assert quote.baseline_s > quote.compute_s and receipt["baseline_compute_seconds"] > receipt["compute_seconds"]


def test_what_accepted_drafts_saved_is_a_lever(quote: Quote) -> None:
    quote = replace(quote, plan=replace(quote.plan, sampler="draft", steps=4, draft_threshold=0.1))  # 2 or 4 forwards
    accepted, half, refined = (full_receipt(_receipt(quote, 1.4, steps), quote) for steps in ((2, 2), (2, 4), (4, 4)))
    assert "drafts" not in {lever["name"] for lever in refined["levers"]}
    seconds = 1.4 * quote.compute_s
    for receipt, forwards, needless in ((accepted, 5, 4), (half, 7, 2)):  # one of them takes a chunk into the cache
        saved_s = receipt["levers"][-1]["saved_compute_seconds"]
        assert receipt["levers"][-1]["name"] == "drafts"
        assert saved_s == pytest.approx(needless / forwards * seconds, abs=1e-3)
    for receipt in (accepted, half, refined):
        saved_s = sum(lever["saved_compute_seconds"] for lever in receipt["levers"])
        assert receipt["baseline_compute_seconds"] - saved_s == pytest.approx(receipt["compute_seconds"], abs=1e-3)


def test_only_what_the_cap_took_is_traded_where_later_chunks_take_fewer_steps(quote: Quote) -> None:
    quote = replace(quote, plan=replace(quote.plan, steps=4, later_steps=2))
    assert plan_as_run(_receipt(quote, 1.0, (4, 2)), quote)["traded"] == quote.plan_as_dict()["traded"]
    (*_, landed) = plan_as_run(_receipt(quote, 1.0, (4, 1)), quote)["traded"]
    assert (landed["what"], landed["from"], landed["to"]) == ("steps", 2, 1)


def test_what_a_step_cache_skipped_is_a_lever(quote: Quote) -> None:
    quote = replace(quote, plan=replace(quote.plan, step_cache="sea"))
    receipt = full_receipt(_receipt(quote, 0.7), quote)
    skipped = {"name": "skipped_steps", "saved_compute_seconds": pytest.approx(0.3 * quote.compute_s, abs=1e-3)}
    assert receipt["levers"][-1] == skipped
    slower = full_receipt(_receipt(quote, 1.2), quote)
    assert slower["levers"][-1]["saved_compute_seconds"] == 0.0, "on a device that has slowed down nobody can tell"


def test_energy_is_measured_or_rated(quote: Quote) -> None:
    rated = full_receipt(_receipt(quote, 1.0), quote)
    assert rated["energy_source"] == "rated_watts"
    assert rated["energy_joules"] == pytest.approx(65 * quote.compute_s, rel=1e-2)
    measured = full_receipt(_receipt(quote, 1.0), quote, Energy(12.0, "nvml"))
    assert (measured["energy_joules"], measured["energy_source"]) == (12.0, "nvml")


def test_a_landing_is_one_more_trade_of_the_plan(quote: Quote) -> None:
    compute = _receipt(quote, 0.6, steps=(4, 2))
    plan = plan_as_run(compute, quote)
    assert plan["steps"] == 2
    (landed,) = plan["traded"]
    assert (landed["what"], landed["from"], landed["to"]) == ("steps", 4, 2)
    saved_s = 2 / 7 * compute.compute_seconds  # two steps, of seven forwards
    assert landed["saves_usd"] == pytest.approx(float(quote.rate.price(saved_s)), abs=1e-9)
    levers = full_receipt(compute, quote)["levers"]
    assert levers[-1] == {"name": "landing", "saved_compute_seconds": pytest.approx(saved_s, abs=1e-4)}


def test_a_run_as_planned_has_its_plan(quote: Quote) -> None:
    assert plan_as_run(_receipt(quote, 1.0), quote) == quote.plan_as_dict()

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from known_configs import known_configs
from tiny_model import make_tiny_checkpoint
from videosvc.config.models import ModelEntry
from videosvc.config.presets import load_preset
from videosvc.config.quality import load_quality
from videosvc.config.request import Request, resolve_plan
from videosvc.config.settings import CHECKOUT_CONFIGS, Settings
from videosvc.engine.picture import Picture
from videosvc.engine.plan import Plan
from videosvc.errors import CapTooLow, ConfigError, ModelError, UserError
from videosvc.pricing.calibration import Calibration, calibration_path, levers_of
from videosvc.pricing.cap import Cap
from videosvc.pricing.goal import Goal
from videosvc.pricing.ladder import candidates
from videosvc.pricing.money import usd_up
from videosvc.pricing.planner import Planner
from videosvc.pricing.quality import qualities
from videosvc.pricing.quote import Quote
from videosvc.pricing.shape import ModelShape

QUALITY = Request("a red balloon", preset="quality", seconds=4.0, fps=16, seed=7)
SHARED = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """A configuration whose model was tuned: four steps are worth more than size, and the eighth gives nothing."""
    return tuned(tmp_path / "configs", {"64x64": 0.0, "96x96": 0.03, "128x128": 0.05})


@pytest.fixture
def hardly_learnt(tmp_path: Path) -> Path:
    """A configuration whose model is worse at larger sizes."""
    return tuned(tmp_path / "hardly", {"64x64": 0.0, "96x96": -0.4, "128x128": -0.45})


CODED = {("native", "native"): 1.0, ("native", "int4"): 0.9, ("int8", "native"): 0.6, ("int8", "int4"): 0.5}


@pytest.fixture
def coded(tmp_path: Path, calibrated: Calibration, plan: Plan, settings: Settings) -> Path:
    """A configuration whose quality preset trades weights and frame cache too, each of them cheaper and a bit worse."""
    folder = tuned(tmp_path / "coded", {"64x64": 0.0, "96x96": 0.03, "128x128": 0.05}, tuple(CODED))
    file = folder / "presets" / "quality.toml"
    file.write_text(file.read_text().replace('"fps"]', '"fps", "weights", "frame_cache"]'))
    for (weights, frame_cache), share in CODED.items():
        of = replace(plan, weights=weights, frame_cache=frame_cache)
        denoise = {name: share * seconds for name, seconds in calibrated.seconds["denoise"].items()}
        fields = {"levers": levers_of(of), "seconds": {**calibrated.seconds, "denoise": denoise}}
        calibrated.model_copy(update=fields).save(calibration_path(settings.data_dir, "cpu", calibrated.model, of))
    return folder


def tuned(folder: Path, sizes: dict[str, float], levers: tuple[tuple[str, str], ...] = (("native", "native"),)) -> Path:
    known_configs(folder)
    worth = {1: 0.5, 2: 0.7, 4: 0.9, 8: 0.88}
    points = [
        {"size": size, "steps": steps, "sampler": "flow_map", "weights": weights, "frame_cache": frame_cache,
         "quality": value + more - 0.005 * number}
        for size, more in sizes.items()
        for steps, value in worth.items()
        for number, (weights, frame_cache) in enumerate(levers)
    ]  # fmt: skip
    (folder / "quality").mkdir()
    (folder / "quality" / "toyworld.json").write_text(json.dumps({"model": "toyworld", "points": points}))
    return folder


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


def test_size_goes_first_then_steps_then_fps_and_never_the_length(planner: Planner) -> None:
    whole = planner.quote(QUALITY).price_usd
    seen = []
    for percent in range(100, 0, -1):
        try:
            quote = planner.quote(QUALITY, Cap(max_cost_usd=whole * percent / 100))
        except CapTooLow:
            break
        assert quote.price_usd <= whole * percent / 100
        assert quote.plan.seconds == 4.0 and quote.plan.frames == 4 * quote.plan.fps
        saved = sum((trade.saves_usd for trade in quote.traded), Decimal())
        assert quote.price_usd + saved == pytest.approx(whole, abs=Decimal("1e-8"))
        seen.append([trade.what for trade in quote.traded])
    assert seen[0] == []
    assert [*map(list, dict.fromkeys(map(tuple, seen)))][1:4] == [["size"], ["size", "steps"], ["size", "steps", "fps"]]


def test_weights_and_frame_cache_are_traded_where_they_were_calibrated(
    coded: Path, make_planner: Callable[..., Planner], settings: Settings
) -> None:
    planner = make_planner(coded)
    whole = planner.quote(QUALITY)
    assert (whole.plan.weights, whole.plan.frame_cache, whole.traded) == ("native", "native", ())
    seen = set()
    for percent in range(100, 25, -1):
        cap = Cap(max_cost_usd=whole.price_usd * percent / 100)
        quote = planner.quote(QUALITY, cap)
        saved = sum((trade.saves_usd for trade in quote.traded), Decimal())
        assert quote.price_usd + saved == pytest.approx(whole.price_usd, abs=Decimal("1e-8"))
        named = {trade.what: trade.after for trade in quote.traded}
        assert named.get("weights", "native") == quote.plan.weights
        assert named.get("frame_cache", "native") == quote.plan.frame_cache
        assert quote.quality_measured and quote.calibrated
        assert sum(saving.saved_s for saving in quote.savings) == pytest.approx(quote.baseline_s - quote.compute_s)
        seen.add((quote.plan.weights, quote.plan.frame_cache))
    assert seen == set(CODED)
    table = coded / "quality" / "toyworld.json"
    points = json.loads(table.read_text())["points"]
    known = [point for point in points if point["weights"] == "native"]
    table.write_text(json.dumps({"model": "toyworld", "points": known}))
    quote = planner.quote(QUALITY, Cap(max_cost_usd=whole.price_usd * 4 / 10))
    assert quote.plan.weights == "native" and quote.quality_measured, "what nobody measured does not stand in"
    for file in (settings.data_dir / "calibration").glob("*.json"):
        if ".native-native-" not in file.name:
            file.unlink()
    quote = planner.quote(QUALITY, Cap(max_cost_usd=whole.price_usd / 2))
    assert (quote.plan.weights, quote.plan.frame_cache) == ("native", "native"), "a guess knows no difference"


def test_an_order_of_its_own(planner: Planner, make_planner: Callable[..., Planner], tmp_path: Path) -> None:
    folder = tmp_path / "configs"
    known_configs(folder)
    file = folder / "presets" / "quality.toml"
    file.write_text(file.read_text().replace('["size", "steps", "fps"]', '["steps"]'))
    whole = planner.quote(QUALITY).price_usd
    quote = make_planner(folder).quote(QUALITY, Cap(max_cost_usd=whole * 6 / 10))
    assert [trade.what for trade in quote.traded] == ["steps"]
    assert (quote.plan.size, quote.plan.fps) == ("128x128", 16)


@SHARED
@given(shares=st.lists(st.floats(0.02, 1.5), min_size=2, max_size=2), seconds=st.sampled_from([0.5, 2.0, 7.3]))
@pytest.mark.parametrize("kind", ["usd", "compute"])
@pytest.mark.parametrize("worth", ["configs", "measured", "hardly_learnt", "coded"])
def test_a_higher_cap_never_gives_a_worse_plan(
    calibrated: Calibration,
    make_planner: Callable[..., Planner],
    request: pytest.FixtureRequest,
    kind: str,
    worth: str,
    shares: list[float],
    seconds: float,
) -> None:
    chosen = make_planner(request.getfixturevalue(worth))
    asked = Request("a red balloon", preset="quality", seconds=seconds, seed=1)
    whole = chosen.quote(asked)
    low, high = sorted(shares)
    worse, better = (_try(chosen, asked, _cap(kind, share, whole)) for share in (low, high))
    if worse is not None:
        assert better is not None and better.quality >= worse.quality


@SHARED
@given(share=st.floats(0.02, 1.2), seconds=st.sampled_from([0.5, 2.0, 7.3]))
@pytest.mark.parametrize("kind", ["usd", "compute"])
@pytest.mark.parametrize("worth", ["configs", "measured", "hardly_learnt", "coded"])
def test_no_allowed_plan_is_better_than_the_chosen_one(
    calibrated: Calibration,
    make_planner: Callable[..., Planner],
    request: pytest.FixtureRequest,
    entry: ModelEntry,
    kind: str,
    worth: str,
    share: float,
    seconds: float,
) -> None:
    """Every plan of the ladder, priced one by one."""
    folder = request.getfixturevalue(worth)
    chosen_by = make_planner(folder)
    asked = Request("a red balloon", preset="quality", seconds=seconds, seed=1)
    whole = chosen_by.quote(asked)
    cap = _cap(kind, share, whole)
    quote = _try(chosen_by, asked, cap)
    others = [replace(whole.plan, weights=weights, frame_cache=cache) for weights, cache in CODED]
    levers = [levers_of(other) for other in others] if worth == "coded" else []
    ladder = candidates(whole.plan, entry, load_preset(folder, "quality").cap.trade, levers)
    expected, _ = qualities(ladder, load_quality(folder, entry.name))
    fitting = []
    for candidate, quality in zip(ladder, expected, strict=True):
        estimate = chosen_by.cost_model.estimate(candidate.plan, entry)
        price = usd_up(whole.rate.price(estimate.bound_s))
        if not candidate.allowed:
            continue
        if cap.max_cost_usd is not None and price > cap.max_cost_usd:
            continue
        if cap.max_compute_s is not None and estimate.needed_s > cap.max_compute_s:
            continue
        fitting.append((quality, price, candidate.plan))
    if quote is None:
        assert fitting == []
        return
    assert quote.plan in [plan for _, _, plan in fitting]
    for quality, price, _ in fitting:
        assert quality <= quote.quality
        if quote.plan != whole.plan and quality == quote.quality:
            assert price >= quote.price_usd - Decimal("1e-9")


def test_a_tuned_model_trades_by_what_was_measured(
    measured: Path, make_planner: Callable[..., Planner], calibrated: Calibration
) -> None:
    tuned = make_planner(measured)
    whole = tuned.quote(QUALITY)
    assert whole.quality_measured and whole.quality == pytest.approx(0.95)
    quote = tuned.quote(QUALITY, Cap(max_cost_usd=whole.price_usd * 9 / 10))
    assert (quote.plan.size, quote.plan.steps) == ("128x128", 4)  # as good, and cheaper than any with more


def test_a_size_that_was_hardly_learnt_is_had_without_a_cap_and_never_bought_under_one(
    hardly_learnt: Path, make_planner: Callable[..., Planner], calibrated: Calibration
) -> None:
    planner = make_planner(hardly_learnt)
    whole = planner.quote(QUALITY)
    assert (whole.plan.size, whole.traded, whole.quality_measured) == ("128x128", (), True)
    assert whole.quality == pytest.approx(0.45)
    for share in (Decimal("0.5"), Decimal(10)):
        quote = planner.quote(QUALITY, Cap(max_cost_usd=whole.price_usd * share))
        assert (quote.plan.size, quote.quality) == ("64x64", pytest.approx(0.9))
        assert quote.traded[0].what == "size" and quote.price_usd < whole.price_usd
    kept = planner.quote(QUALITY, Cap(max_cost_usd=whole.price_usd, on_cap="reject"))
    assert kept.plan == whole.plan


@pytest.mark.parametrize("preset", ["draft", "balanced", "quality"])
def test_the_shipped_model_was_measured(settings: Settings, preset: str) -> None:
    """`make presets` is due where this fails: the weights are others than those that were measured."""
    planner = Planner(CHECKOUT_CONFIGS, settings, "cpu")
    request = Request("a red balloon", preset=preset, seed=7)
    assert planner.quote(request).quality_measured
    assert planner.quote(replace(request, model="auto"), goal=Goal(min_quality=1e-6)).plan.model == "toyworld"


def test_a_broken_quality_table_names_its_mistake(measured: Path, make_planner: Callable[..., Planner]) -> None:
    (measured / "quality" / "toyworld.json").write_text('{"model": "toyworld", "points": [{"size": "1"}]}')
    with pytest.raises(ConfigError, match=r"toyworld.json: points.0.size"):
        make_planner(measured).quote(QUALITY)


def test_a_table_of_other_weights_does_not_count(
    measured: Path,
    make_planner: Callable[..., Planner],
    calibrated: Calibration,
    shape: ModelShape,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = measured / "quality" / "toyworld.json"
    sweep = {
        "score": "probe", "method": "share", "reference": "50 steps", "reference_quality": 0.9, "clips": 3,
        "seconds": 2.0, "seed": 0, "device": "cpu", "usd_per_hour": 0.1, "margin": 0.3, "versions": {},
        "measured_at": 1.0,
    }  # fmt: skip
    for model_hash, counts in ((shape.model_hash, True), ("of an earlier training", False)):
        table = json.loads(path.read_text()) | {"sweep": {**sweep, "model_hash": model_hash}}
        path.write_text(json.dumps(table))
        planner = make_planner(measured)
        assert [planner.quote(QUALITY).quality_measured for _ in range(2)] == [counts, counts]
        assert len(caplog.records) == (not counts)
    assert caplog.messages[0].startswith("quality/toyworld.json was measured on other weights of the model and does")


def test_reject_refuses_what_degrade_would_trade(planner: Planner) -> None:
    whole = planner.quote(QUALITY).price_usd
    with pytest.raises(CapTooLow) as caught:
        planner.quote(QUALITY, Cap(max_cost_usd=whole / 2, on_cap="reject"))
    assert caught.value.cheapest_usd == whole  # of what it would accept
    assert (caught.value.code, caught.value.exit_code, caught.value.param) == ("cap_too_low", 3, "max_cost_usd")
    assert planner.quote(QUALITY, Cap(max_cost_usd=whole, on_cap="reject")).traded == ()


def test_nothing_fits(planner: Planner) -> None:
    with pytest.raises(CapTooLow, match=r"max_cost_usd: 0\.000000001 USD is too low; .* \(4 s at 64x64, 4 fps"):
        planner.quote(QUALITY, Cap.parse(max_cost_usd="0.000000001"))
    with pytest.raises(CapTooLow, match=r"max_compute_seconds: 0\.001 s of compute is too low") as caught:
        planner.quote(QUALITY, Cap.parse(max_compute_seconds=0.001))
    cheapest = planner.quote(QUALITY, Cap(max_cost_usd=caught.value.cheapest_usd))
    assert cheapest.price_usd == caught.value.cheapest_usd


def test_a_presets_own_limit_counts_once_costs_are_known(
    make_planner: Callable[..., Planner], settings: Settings, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = tmp_path / "configs"
    known_configs(folder)
    file = folder / "presets" / "quality.toml"
    file.write_text(file.read_text().replace("max_cost_usd = 0.2", "max_cost_usd = 0.00001"))
    guessed = make_planner(folder).quote(QUALITY)
    assert not guessed.calibrated and guessed.traded == () and guessed.max_compute_s is None
    request.getfixturevalue("calibrated")
    known = make_planner(folder).quote(QUALITY)
    assert known.calibrated and known.traded != () and known.price_usd <= Decimal("0.00001")
    assert known.max_compute_s == 4 * 8.0
    generous = Cap(max_cost_usd=Decimal(1))
    assert make_planner(folder).quote(QUALITY, generous).plan == known.plan  # the smaller limit counts
    file.write_text(file.read_text().replace("max_cost_usd = 0.00001", "max_cost_usd = 0.000000001"))
    with pytest.raises(CapTooLow, match=r"preset: its limit of 0\.000000001 USD is too low") as caught:
        make_planner(folder).quote(QUALITY, generous)
    assert caught.value.param == "preset"


def test_batch_is_cheaper(planner: Planner) -> None:
    now, later = planner.quote(QUALITY), planner.quote(QUALITY, tier="batch")
    assert later.price_usd == pytest.approx(now.price_usd * Decimal("0.6"), abs=Decimal("1e-9"))
    assert later.compute_s == now.compute_s
    with pytest.raises(UserError, match="tier: 'soon' is not one of interactive, batch"):
        planner.quote(QUALITY, tier="soon")


def test_what_waits_before_it_is_in_its_eta(planner: Planner) -> None:
    quote = planner.quote(QUALITY, wait_s=lambda model: 10.0)
    assert quote.eta_s == 10.0 + quote.compute_s


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


def test_a_device_without_a_price_is_named(make_planner: Callable[..., Planner]) -> None:
    with pytest.raises(ConfigError, match=r"devices.toml: no pattern fits device 'abacus'; add one"):
        make_planner(device="abacus").quote(QUALITY)


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


def test_planning_needs_no_torch() -> None:
    script = (
        "import sys; from pathlib import Path;"
        "from videosvc.config.settings import config_dir, load_settings; from videosvc.config.request import Request;"
        "from videosvc.pricing.planner import Planner; from videosvc.pricing.receipt import full_receipt;"
        "folder = config_dir(); Planner(folder, load_settings(folder), 'cpu').quote(Request('a red balloon'));"
        "print(*[name for name in ('torch', 'numpy', 'scipy', 'diffusers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def _cap(kind: str, share: float, whole: Quote) -> Cap:
    if kind == "usd":
        return Cap(max_cost_usd=whole.price_usd * Decimal(repr(share)))
    return Cap(max_compute_s=whole.bound_s * share)


def _try(planner: Planner, request: Request, cap: Cap) -> Quote | None:
    try:
        return planner.quote(request, cap)
    except CapTooLow:
        return None


def png(colour: str) -> Picture:
    file = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(file, "PNG")
    return Picture.read(file.getvalue())


def test_a_picture_costs_a_forward_and_its_frames_more(planner: Planner) -> None:
    """A clip of 16 frames is two chunks with or without one; all it adds is what SECONDS says of its work."""
    request = Request("a red balloon", seconds=2.0, seed=7)
    plain, quote = planner.quote(request), planner.quote(replace(request, picture=png("red")))
    assert quote.plan == replace(plain.plan, input_reference=png("red").digest)
    frames = 8 * 64 * 64 / 1e6
    tokens = 32
    forward_s = 0.008 + 0.1 * tokens / 1e3 + 0.5 * tokens**2 / 1e6
    seen_s = plain.plan.steps * 0.5 * tokens**2 / 1e6 + 0.5 * tokens**2 / 1e6  # the first chunk looks back on it
    added_s = forward_s + seen_s + 0.002 + 0.2 * 2 * frames  # encoded, and decoded with the first chunk
    assert quote.compute_s - plain.compute_s == pytest.approx(added_s, rel=1e-6)
    assert quote.price_usd > plain.price_usd


def test_a_cap_trades_for_a_picture_too(planner: Planner) -> None:
    request = replace(QUALITY, picture=png("red"))
    whole = planner.quote(request)
    cheaper = planner.quote(request, Cap(max_cost_usd=whole.price_usd / 2))
    assert cheaper.traded and cheaper.plan.input_reference == whole.plan.input_reference == png("red").digest
    assert Quote.parse(json.loads(json.dumps(cheaper.fields()))) == cheaper


def test_a_model_that_cannot_start_from_a_picture_is_refused_and_passed_by(
    make_planner: Callable[..., Planner], calibrated: Calibration, tmp_path: Path
) -> None:
    folder = tmp_path / "configs"
    known_configs(folder)
    checkpoint = make_tiny_checkpoint(tmp_path / "wan", vae="wan", chunk_partition=(3, 3))
    models = folder / "models.toml"
    entry = models.read_text()[models.read_text().index("[[models]]") :]
    models.write_text(entry.replace("toyworld", "wan").replace("bundled:wan", str(checkpoint)) + "\n" + entry)
    planner, request = make_planner(folder), Request("a red balloon", model="wan", seed=7)
    assert planner.quote(request).plan.model == "wan"
    with pytest.raises(ModelError) as refused:
        planner.quote(replace(request, picture=png("red")))
    assert refused.value.param == "input_reference"
    assert refused.value.message.startswith("input_reference: model 'wan' cannot start from a picture: ")
    assert planner.quote(replace(request, model="auto", picture=png("red"))).plan.model == "toyworld"

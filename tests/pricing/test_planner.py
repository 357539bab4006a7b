from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from PIL import Image

from known_configs import known_configs
from tiny_model import make_tiny_checkpoint
from videosvc.config.models import load_model
from videosvc.config.request import Request
from videosvc.config.settings import Settings
from videosvc.engine.picture import Picture
from videosvc.errors import CapTooLow, ModelError
from videosvc.pricing.calibration import Calibration
from videosvc.pricing.cap import Cap
from videosvc.pricing.planner import Planner
from videosvc.pricing.quote import Quote

QUALITY = Request("a red balloon", preset="quality", seconds=4.0, fps=16, seed=7)


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


def test_an_order_of_its_own(planner: Planner, make_planner: Callable[..., Planner], tmp_path: Path) -> None:
    folder = tmp_path / "configs"
    known_configs(folder)
    file = folder / "presets" / "quality.toml"
    file.write_text(file.read_text().replace('["size", "steps", "fps"]', '["steps"]'))
    whole = planner.quote(QUALITY).price_usd
    quote = make_planner(folder).quote(QUALITY, Cap(max_cost_usd=whole * 6 / 10))
    assert [trade.what for trade in quote.traded] == ["steps"]
    assert (quote.plan.size, quote.plan.fps) == ("128x128", 16)


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
    assert guessed.price_usd == Decimal("0.00001"), (
        "a guess refuses nobody, and nobody is charged more than the preset says"
    )
    request.getfixturevalue("calibrated")
    known = make_planner(folder).quote(QUALITY)
    assert known.calibrated and known.traded != () and known.price_usd <= Decimal("0.00001")
    assert known.max_compute_s is not None and known.max_compute_s < 4 * 8.0, "what the limit in USD buys is less"
    generous = Cap(max_cost_usd=Decimal(1))
    assert make_planner(folder).quote(QUALITY, generous).plan == known.plan  # the smaller limit counts
    file.write_text(file.read_text().replace("max_cost_usd = 0.00001", "max_cost_usd = 0.000000001"))
    with pytest.raises(CapTooLow, match=r"preset: its limit of 0\.000000001 USD is too low") as caught:
        make_planner(folder).quote(QUALITY, generous)
    assert caught.value.param == "preset"


def test_a_cap_in_usd_holds_the_run_to_what_it_buys(planner: Planner) -> None:
    """Else a device that slows down would go on computing what nobody pays for."""
    whole = planner.quote(QUALITY)
    tight = planner.quote(QUALITY, Cap(max_cost_usd=whole.price_usd))
    assert tight.plan.steps == whole.plan.steps and tight.max_compute_s is not None
    assert tight.bound_s <= tight.max_compute_s < 1.5 * tight.bound_s, "it runs whole if it takes its bound"
    double = planner.quote(QUALITY, Cap(max_cost_usd=2 * whole.price_usd))
    assert double.max_compute_s == pytest.approx(2 * whole.bound_s, rel=1e-3)
    both = planner.quote(QUALITY, Cap(max_cost_usd=2 * whole.price_usd, max_compute_s=1.9 * whole.bound_s))
    assert both.max_compute_s == 1.9 * whole.bound_s, "the smaller limit counts"


def test_fewer_steps_after_the_first_chunk_are_cheaper_the_longer_the_clip(
    make_planner: Callable[..., Planner], tmp_path: Path
) -> None:
    folder = known_configs(tmp_path / "configs")
    preset = folder / "presets" / "quality.toml"
    text = preset.read_text()
    planner = make_planner(folder)
    price: dict[tuple[float, bool], float] = {}
    for fewer in (False, True):
        preset.write_text(text.replace("[quality]", "[quality]\nlater_steps = 1") if fewer else text)
        for seconds in (0.5, 2.0, 8.0):
            quote = planner.quote(replace(QUALITY, seconds=seconds))
            price[seconds, fewer] = float(quote.price_usd)
            assert quote.plan.later_steps == (1 if fewer else None)
            costs = planner.cost_model.fit(load_model(folder, "toyworld"), quote.plan).costs(quote.plan)
            assert quote.compute_s == pytest.approx(costs.total_s(quote.plan.most_steps))
            saved = {saving.name for saving in quote.savings}
            assert ("later_steps" in saved) is fewer
    shares = [price[seconds, True] / price[seconds, False] for seconds in (0.5, 2.0, 8.0)]
    assert shares[0] == 1.0 > shares[1] > shares[2]


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

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from PIL import Image

from videosvc.cli.main import run
from videosvc.cli.quote import summary
from videosvc.config.request import Request
from videosvc.config.settings import config_dir, load_settings
from videosvc.pricing.planner import Planner
from videosvc.pricing.quote import Alternative

pytestmark = pytest.mark.usefixtures("tiny_configs")

PROMPT = "a red circle moves left"


def test_json_is_the_quote_alone(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["quote", PROMPT, "--preset", "quality", "--seconds", "3", "--json"]) == 0
    out, err = capfd.readouterr()
    quote = json.loads(out)
    assert (quote["object"], quote["preset"], quote["seconds"], quote["calibrated"]) == ("quote", "quality", 3.0, False)
    assert quote["price_usd"] > 0 and quote["plan"]["size"] == "128x128"
    assert err == ""


def test_for_people_it_tells_price_plan_trades_and_that_it_is_a_guess(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["quote", PROMPT, "--preset", "quality", "--json"]) == 0
    whole = json.loads(capfd.readouterr().out)["price_usd"]
    assert run(["quote", PROMPT, "--preset", "quality", "--max-cost", f"{0.9 * whole:.9f}"]) == 0
    out, _ = capfd.readouterr()
    for part in ("USD at most", "a second of the clip", "traded: size 128x128 -> ", "`videosvc calibrate`", "\nor 0."):
        assert part in out


def test_an_offer_with_other_levers_names_them() -> None:
    quote = Planner(config_dir(), load_settings(config_dir()), "cpu").quote(Request(PROMPT))
    other = Alternative("64x64", 1, 8, Decimal("0.00001"), 0.1, 0.7, weights="int8", frame_cache="int4")
    told = summary(replace(quote, alternatives=(other,))).splitlines()[-1]
    assert told == "or 0.00001 USD: 64x64, 8 fps, 1 step, int8 weights, int4 frame cache"


def test_a_cap_too_small_to_write_out_is_one_short_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["quote", PROMPT, "--max-cost", "1e-999999999999"]) == 2
    assert len(capfd.readouterr().err) < 150


def test_refusals_have_their_exit_codes(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["quote", PROMPT, "--max-cost", "0.000000001"]) == 3
    assert "--max-cost: " in capfd.readouterr().err
    assert run(["quote", PROMPT, "--preset", "quality", "--max-compute", "0.5", "--on-cap", "reject"]) == 3
    assert "--max-compute: " in capfd.readouterr().err
    assert run(["quote", PROMPT, "--seconds", "nan"]) == 2
    assert "--seconds: " in capfd.readouterr().err


def test_goals_that_cannot_be_reached_name_their_option(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["quote", PROMPT, "--model", "auto", "--deadline", "0.0001"]) == 2
    assert "--deadline: 0.0001 is too soon; the quickest allowed plan may take " in capfd.readouterr().err
    assert run(["quote", PROMPT, "--min-quality", "2"]) == 2
    assert "--min-quality: 2 must be more than 0 and at most 1" in capfd.readouterr().err


def test_auto_is_the_cheapest_model(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["quote", PROMPT, "--model", "auto", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["model"] == "toyworld"


def test_a_picture_is_quoted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (90, 60), "red").save(tmp_path / "a.webp")
    prices = []
    for words in ([], ["--input-reference", str(tmp_path / "a.webp")]):
        assert run(["quote", PROMPT, *words, "--json"]) == 0
        prices.append(json.loads(capfd.readouterr().out)["price_usd"])
    assert prices[0] < prices[1]
    assert run(["quote", PROMPT, "--input-reference", str(tmp_path)]) == 2
    assert "--input-reference: " in capfd.readouterr().err


@pytest.mark.parametrize(("lever", "value"), [("weights", "int8"), ("frame_cache", "int4")])
def test_a_preset_that_this_device_refuses_has_no_price(
    lever: str, value: str, tiny_configs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """It is refused as `generate` refuses it."""
    refusal = f"lever {lever}={value!r} cannot be: no such thing here"
    monkeypatch.setattr("videosvc.families.block_levers.int8_refusal", lambda device: "no such thing here")
    for module in ("far_codecs", "anyflow_far"):
        monkeypatch.setattr(
            f"videosvc.families.{module}.codec_refusal", lambda codec, *_: refusal if codec == "int4" else None
        )
    draft = tiny_configs / "presets" / "draft.toml"
    draft.write_text(draft.read_text().replace(f'{lever} = "native"', f'{lever} = "{value}"'))
    told = []
    for words in (["quote", PROMPT], ["generate", PROMPT, "-o", str(tmp_path / "a.mp4")]):
        assert run([*words, "--preset", "draft", "--seconds", "1"]) == 2
        out, err = capfd.readouterr()
        assert out == ""
        told.append(err)
    assert told[0] == told[1] == f"error: model 'toyworld': {refusal}\n"

from __future__ import annotations

import json
from pathlib import Path

import pytest

from videosvc.cli.main import run

pytestmark = pytest.mark.usefixtures("tiny_configs")


def test_quotes_are_no_guesses_from_then_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("videosvc.pricing.calibrate.ROUNDS", 1)
    monkeypatch.setenv("VIDEOSVC_DATA_DIR", str(tmp_path / "data"))
    assert run(["calibrate"]) == 0
    out, err = capfd.readouterr()
    fit = tmp_path / "data" / "calibration" / "cpu.toyworld.native-native-stream.json"
    assert str(fit) in out
    assert set(json.loads(fit.read_text())["versions"]) == {"videosvc", "torch", "diffusers"}
    assert all(f"{preset}: " in out for preset in ("draft", "balanced", "quality", "reference"))
    assert err == ""
    assert run(["quote", "a red circle", "--json", "--max-cost", "1"]) == 0
    quote = json.loads(capfd.readouterr().out)
    assert quote["calibrated"] is True
    assert quote["compute_seconds_bound"] <= 3 * quote["compute_seconds"] + 1e-3  # both are told to four decimals
    clip = ["-o", str(tmp_path / "a.mp4"), "--quote-id", quote["id"], "--json"]
    assert run(["generate", "a red circle", *clip]) == 0
    answer = json.loads(capfd.readouterr().out)
    receipt = answer["receipt"]
    assert answer["quote"] == quote and receipt["quoted_usd"] == quote["price_usd"]
    assert {key: answer["plan"][key] for key in quote["plan"]} == quote["plan"]
    sold_at = quote["price_usd"] / quote["compute_seconds_bound"]  # USD a second, to four digits
    charged = min(receipt["compute_seconds"] * sold_at, quote["price_usd"])
    assert receipt["charged_usd"] == pytest.approx(charged, rel=1e-2)


def test_what_may_be_traded_for_is_measured_too(
    tmp_path: Path, tiny_configs: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("videosvc.pricing.calibrate.ROUNDS", 1)
    monkeypatch.setenv("VIDEOSVC_DATA_DIR", str(tmp_path / "data"))
    for name in ("draft", "balanced", "reference"):
        (tiny_configs / "presets" / f"{name}.toml").unlink()
    quality = tiny_configs / "presets" / "quality.toml"
    quality.write_text(quality.read_text().replace('"fps"]', '"frame_cache"]'))
    assert run(["calibrate"]) == 0
    files = sorted(file.name for file in (tmp_path / "data" / "calibration").glob("*.json"))
    assert files == [f"cpu.toyworld.native-{cache}-stream.json" for cache in ("int4", "int8", "native")]
    quality.write_text(quality.read_text().replace('"frame_cache"]', '"cache"]'))
    assert run(["presets", "check", str(quality)]) == 2
    assert "frame_cache" in capfd.readouterr().err


def test_a_preset_that_this_device_cannot_run_is_left_out(
    tmp_path: Path, tiny_configs: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("videosvc.pricing.calibrate.ROUNDS", 1)
    monkeypatch.setattr("videosvc.families.block_levers.compile_refusal", lambda device: "there is no compiler")
    monkeypatch.setenv("VIDEOSVC_DATA_DIR", str(tmp_path / "data"))
    presets = tiny_configs / "presets"
    for name in ("draft", "quality", "reference"):
        (presets / f"{name}.toml").unlink()
    text = (presets / "balanced.toml").read_text()
    compiled = text.replace('"balanced"', '"a"').replace("[levers]", "[levers]\ncompile = true")
    (presets / "a.toml").write_text(compiled)
    assert run(["calibrate"]) == 0
    out, err = capfd.readouterr()
    assert err.startswith("native-native-stream-compiled is left out: ") and "there is no compiler" in err
    assert len(err.splitlines()) == 1
    assert "balanced: " in out and "a: " not in out
    assert [file.name for file in (tmp_path / "data" / "calibration").glob("*.json")] == [
        "cpu.toyworld.native-native-stream.json"
    ]
    (presets / "balanced.toml").unlink()
    assert run(["calibrate"]) == 2
    assert "lever compile=true cannot be: there is no compiler" in capfd.readouterr().err


def test_an_unknown_model_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["calibrate", "--model", "sora"]) == 2
    assert capfd.readouterr().err == "error: --model: 'sora' is unknown; there are toyworld\n"

from __future__ import annotations

from pathlib import Path

import pytest

from videosvc.config.models import AttentionName
from videosvc.engine.plan import Plan
from videosvc.pricing.calibration import Calibration, calibration_path, fingerprint_of, load_calibration


def test_comes_back_from_its_file(calibrated: Calibration, calibration_file: Path) -> None:
    assert load_calibration(calibration_file, calibrated.fingerprint) == calibrated
    assert list(calibration_file.parent.iterdir()) == [calibration_file]


def test_other_weights_or_versions_make_it_stale(
    calibrated: Calibration, calibration_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_calibration(calibration_file, fingerprint_of("retrained")) is None
    before = fingerprint_of("weights")
    monkeypatch.setattr("videosvc.pricing.calibration.version", lambda library: "99.0")
    assert fingerprint_of("weights") != before


@pytest.mark.parametrize(("attention", "package"), [("flash", "flash-attn"), ("xformers", "xformers")])
def test_the_package_that_attends_counts_where_it_does(
    attention: AttentionName, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def installed(number: str) -> set[str]:
        monkeypatch.setattr("videosvc.pricing.calibration.version", lambda name: number if name == package else "1.0")
        return {fingerprint_of("weights", "auto", name) for name in (attention, "native")}

    assert len(installed("2.0") | installed("2.1")) == 3, "one of native, and one of each version"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"format": 1', '"format": 2'),
        ('"kilotokens": 0.1', '"kilotokens": -0.1'),
        ('"kilotokens": 0.1', '"kilotokens": NaN'),
        ('"kilotokens"', '"tokens"'),
        ('"cold_s"', '"warm_s"'),
        ("{", ""),
    ],
)
def test_a_damaged_file_is_none(calibrated: Calibration, calibration_file: Path, old: str, new: str) -> None:
    text = calibration_file.read_text()
    assert old in text
    calibration_file.write_text(text.replace(old, new))
    assert load_calibration(calibration_file, calibrated.fingerprint) is None


def test_no_file_is_none(tmp_path: Path) -> None:
    assert load_calibration(tmp_path / "none.json", "f") is None


def test_each_device_has_its_file(plan: Plan) -> None:
    path = calibration_path(Path("data"), "NVIDIA GeForce RTX 5090 / 32GB", "toyworld", plan)
    assert path == Path("data/calibration/nvidia-geforce-rtx-5090-32gb.toyworld.native-native-stream.json")

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from videosvc.pricing.energy import EnergyMeter, rated_energy

CPU = torch.device("cpu")


def _package(powercap: Path, name: str, microjoules: int, size: int = 1_000_000) -> Path:
    folder = powercap / name
    folder.mkdir()
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{size}\n")
    return folder / "energy_uj"


def test_all_packages_count_and_their_parts_do_not(tmp_path: Path) -> None:
    first, second = _package(tmp_path, "intel-rapl:0", 100), _package(tmp_path, "intel-rapl:1", 5000)
    part = _package(tmp_path, "intel-rapl:0:0", 0)
    meter = EnergyMeter(CPU, tmp_path)
    for file, microjoules in ((first, 600), (second, 5250), (part, 999)):
        file.write_text(str(microjoules))
    energy = meter.read()
    assert energy is not None and energy.source == "rapl"
    assert energy.joules == pytest.approx(750e-6)


def test_a_counter_begins_again(tmp_path: Path) -> None:
    file = _package(tmp_path, "intel-rapl:0", 999_000)
    meter = EnergyMeter(CPU, tmp_path)
    file.write_text("500")
    energy = meter.read()
    assert energy is not None and energy.joules == pytest.approx(1500e-6)


def test_where_nothing_can_be_read_nothing_is_told(tmp_path: Path) -> None:
    assert EnergyMeter(CPU, tmp_path / "none").read() is None
    (_package(tmp_path, "intel-rapl:0", 1)).unlink()
    assert EnergyMeter(CPU, tmp_path).read() is None


def test_rated() -> None:
    assert (rated_energy(700.0, 2.0).joules, rated_energy(700.0, 2.0).source) == (1400.0, "rated_watts")

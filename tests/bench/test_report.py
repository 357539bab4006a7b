from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.report import print_table, write_json
from videosvc.bench.machine import describe
from videosvc.bench.measure import Measure

TIMES = Measure("decode", "s", (5.0, 1.0, 4.0, 2.0, 3.0, 6.0), at_most=3.0)


def test_percentiles_are_interpolated() -> None:
    assert TIMES.percentiles == (2.0, 3.5, 5.0)
    assert Measure("alone", "x", (1.5,)).percentiles == (1.5, 1.5, 1.5)


def test_the_median_is_what_must_hold() -> None:
    assert TIMES.holds is False
    assert Measure("decode", "s", (1.0, 3.0, 9.0), at_most=3.0).holds is True
    assert Measure("decode", "s", (9.0,)).holds is None


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "results" / "a.json"
    write_json(path, {"seed": 7}, [TIMES, Measure("ratio", "x", (2.123456,))])
    content = json.loads(path.read_text())
    assert content["seed"] == 7
    decode, ratio = content["measures"]
    assert (decode["p20"], decode["p50"], decode["p80"]) == (2.0, 3.5, 5.0)
    assert (decode["at_most"], decode["holds"], decode["rounds"]) == (3.0, False, 6)
    assert decode["samples"] == [5.0, 1.0, 4.0, 2.0, 3.0, 6.0]
    assert ratio["samples"] == [2.123] and ratio["holds"] is None


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("a run", [TIMES])
    row = next(line for line in capsys.readouterr().out.splitlines() if "decode" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["decode", "s", "2", "3.5", "5", "3", "NO"]


def test_the_machine_is_named() -> None:
    machine = describe("cpu")
    assert machine["device"] == "cpu" and machine["cpu"] and machine["cores"] >= 1
    assert {"python", "torch", "diffusers", "transformers", "commit"} <= machine.keys()
    json.dumps(machine)

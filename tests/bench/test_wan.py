"""The bench of Wan, all of it on a CPU at a shape of seconds; and what it counts at the real one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.wan import MANY, SEED, STEPS, floor_s, fp8_rate, ideal_s, main, report
from bench.wan_model import WAN_1_3B, WanShape, parts
from bench.wan_ways import DECODES, NATIVE, ROWS, STOCK, Row
from videosvc.families.load_levers import LoadLevers
from videosvc.families.low_bit_weights import storage_only

CPU = torch.device("cpu")
TINY = WanShape(
    layers=2,
    heads=2,
    head_size=24,
    hidden=64,
    text_size=16,
    text_tokens=12,
    decoder_base=4,
    decoder_blocks=1,
    width=48,
    height=32,
    frames=5,
)
EAGER = [row for row in ROWS if not row.levers.compile]  # compiling takes half a minute a row


pytestmark = pytest.mark.usefixtures("int8_products")


def test_all_rows_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "wan.json"
    report(TINY, "cpu", [*EAGER, Row("ours, int4 weights", LoadLevers("int4"))], 2, output)
    content = json.loads(output.read_text())
    measures = {each["name"]: each for each in content["measures"]}

    assert list(content["rows"]) == [row.name for row in EAGER] + ["ours, int4 weights"]
    assert content["refused"]["ours, fp8 weights"] == storage_only("fp8", CPU)
    assert "lever weights='int4' is not available" in content["refused"]["ours, int4 weights"]
    assert len(content["refused"]) == 2
    printed = capsys.readouterr().out
    assert "ours, fp8 weights: cannot be here: saves memory, no time" in printed

    there = {STOCK: 1e-4, NATIVE: 0, "ours": 0, "ours, int8 weights": 0.05}
    timed = [f"{name}: {STEPS} steps" for name in there]
    timed += [f"{name}: {MANY}" for name in (STOCK, "ours")]
    timed += [f"decode {decode}: 2 latents" for decode in DECODES]
    for name in timed:
        assert len(measures[name]["samples"]) == 2 and measures[name]["p20"] > 0
    for name, most in there.items():
        few = measures[f"{name}: {STEPS} steps"]
        assert measures[f"{name}: {STEPS} steps, latents apart"]["p80"] <= most
        assert measures[f"{name}: {STEPS} steps, share of products' rate"]["p50"] > 0
        ratios = [
            stock / own
            for stock, own in zip(measures[f"{STOCK}: {STEPS} steps"]["samples"], few["samples"], strict=True)
        ]
        assert measures[f"{name}: {STEPS} steps, stock / this"]["samples"] == pytest.approx(ratios, rel=2e-3)
    assert {"bare product, native", "bare product, int8"} <= measures.keys()
    layers = measures["ours, int8 weights: layers in few bits"]
    assert layers["unit"] == "of 20" and 0 < layers["p50"] <= 20
    assert measures[f"floor at 1580 TFLOP/s: {STEPS} steps"]["p50"] == pytest.approx(
        4 * TINY.operations / 1580e12, rel=1e-3
    )
    assert measures["decode full: peak"]["p50"] > measures["decode stream: peak"]["p50"] > 0

    assert content["attention"]["size"] == "48x32" and content["attention"]["frames"] == 5
    assert content["machine"]["device"] == "cpu" and content["shape"]["frames"] == 5
    assert content["seed"] == SEED and content["rounds"] == 2


def test_the_real_shape_is_that_of_wan() -> None:
    with torch.device("meta"):
        transformer = parts(WAN_1_3B)["transformer"]
    assert sum(weights.numel() for weights in transformer.parameters()) == 1_418_996_800
    assert (WAN_1_3B.tokens, WAN_1_3B.latents) == (32_760, 21)


def test_operations_are_those_of_the_transformer() -> None:
    """Against torch's own count, at a size where what is outside the blocks is little."""
    shape = WanShape(4, 2, 24, 256, 16, 12, 4, 1, width=256, height=128, frames=17)
    with torch.device("meta"):
        transformer = parts(shape)["transformer"].eval()
        noise, time, text = shape.noise(0, torch.device("meta")), torch.zeros(1), torch.zeros(1, 12, 16)
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            transformer(noise, time, text)
    assert shape.operations == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_the_floor_and_what_products_leave() -> None:
    assert WAN_1_3B.operations == pytest.approx(283e12, rel=1e-3)
    assert floor_s(WAN_1_3B, 790) == pytest.approx(1.43, abs=0.005)
    assert floor_s(WAN_1_3B, 1580) == pytest.approx(0.72, abs=0.005)
    found = {"native": 790e3, "fp8": 1580e3}
    assert ideal_s(WAN_1_3B, "native", found) == pytest.approx(floor_s(WAN_1_3B, 790))
    assert floor_s(WAN_1_3B, 1580) < ideal_s(WAN_1_3B, "fp8", found) < floor_s(WAN_1_3B, 790)


def test_the_rate_of_fp8_products_through_the_emulation() -> None:
    assert fp8_rate(CPU, (8, 32, 48)) > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--output", str(tmp_path / "wan.json")])
    assert ended.value.code == 2
    assert capsys.readouterr() == ("", "bench.wan needs a CUDA device, and there is none here\n")
    assert not list(tmp_path.iterdir())

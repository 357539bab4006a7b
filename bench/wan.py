"""What each lever gains at Wan2.1-1.3B's shape, 81 frames of 832x480 with random weights: `python -m bench.wan`.

A round makes latents of the same noise in every row and decodes some in every way, in an order that turns from round to
round; ratios and distances are taken within it. Needs a CUDA device; where there is none it says so and exits with 2.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from bench.report import print_table, write_json
from bench.wan_model import WAN_1_3B, WanShape
from bench.wan_ways import NATIVE, ROWS, STOCK, Made, Row, Ways, Work
from videosvc.bench.clips import apart
from videosvc.bench.machine import describe
from videosvc.bench.measure import Measure, Samples
from videosvc.bench.products import REPEATS, Shape, product_of, product_rates
from videosvc.bench.rounds import rounds
from videosvc.engine.meter import Meter
from videosvc.families.attention_choice import AttentionChoice
from videosvc.families.wan import Wan
from videosvc_kernels import fp8_product_refusal
from videosvc_kernels.fp8_linear import quantize_fp8

STEPS = 4
MANY_STEPS, GUIDED_STEPS, GUIDANCE = 50, 2, 5.0
MANY = f"{MANY_STEPS} steps with guidance, scaled from {GUIDED_STEPS}"
MANY_ROWS = (STOCK, ROWS[0].name)
# TFLOP/s that an H200's products reach at best, by the weights that they are of.
FLOORS: Mapping[str, int] = {"native": 790, "int8": 1580, "fp8": 1580}
SEED = 7  # of the weights, and of the first round's noise; the next one's is one more
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured."""

    measures: list[Measure]
    attention: AttentionChoice
    refused: dict[str, str]  # rows that cannot be here, and why


def measure(shape: WanShape, device: str, rows: Sequence[Row], count: int) -> Found:
    """`device`: cpu, cuda or cuda:N; `count`: of rounds. Raises what loading and running the plain family raises."""
    with TemporaryDirectory() as name:
        ways = Ways(shape, device, rows, Path(name), SEED)
    samples: Samples = defaultdict(list)
    for name, layers in ways.low_bit_layers.items():
        samples[f"{name}: layers in few bits", f"of {ways.layers}"] = [layers]
    few = {name: partial(way, STEPS, 1.0) for name, way in ways.denoise.items()}
    many = {name: partial(way, GUIDED_STEPS, GUIDANCE) for name, way in ways.denoise.items() if name in MANY_ROWS}

    turns = (rounds(_makers(ways, works), [""] * count, SEED) for works in (few, many, ways.decode))
    for of_few, of_many, of_decode in zip(*turns, strict=True):
        add_round(ways, of_few, of_many, of_decode, rates(ways.family, shape), samples)
    for speed in sorted({FLOORS[weights] for weights in ways.weights.values()}):
        samples[f"floor at {speed} TFLOP/s: {STEPS} steps", "s"] = [floor_s(shape, speed)]
    measures = [Measure(name, unit, tuple(taken)) for (name, unit), taken in samples.items()]
    return Found(measures, ways.attention, ways.refused)


def _makers(ways: Ways, works: Mapping[str, Work]) -> dict[str, Callable[[str, int], Made]]:
    return {name: partial(ways.make, work) for name, work in works.items()}


def add_round(
    ways: Ways,
    few: Mapping[str, Made],
    many: Mapping[str, Made],
    decoded: Mapping[str, Made],
    found: Mapping[str, float],
    samples: Samples,
) -> None:
    """Takes in one round. `found`: the rates of bare products in it."""
    shape = ways.shape
    for name, made in few.items():
        weights, row = ways.weights[name], f"{name}: {STEPS} steps"
        floor, ideal = floor_s(shape, FLOORS[weights]), ideal_s(shape, weights, found)
        samples[row, "s"].append(made.seconds)
        samples[f"{row}, stock / this", "x"].append(few[STOCK].seconds / made.seconds)
        samples[f"{row}, this / floor at {FLOORS[weights]} TFLOP/s", "x"].append(made.seconds / floor)
        samples[f"{row}, share of products' rate", "x"].append(ideal / made.seconds)
        samples[f"{row}, latents apart", "x"].append(apart(made.result, few[NATIVE].result))
    for name, made in many.items():
        samples[f"{name}: {MANY}", "s"].append(made.seconds * MANY_STEPS / GUIDED_STEPS)
    for name, made in decoded.items():
        samples[f"decode {name}: {shape.latents} latents", "s"].append(made.seconds)
        samples[f"decode {name}: peak", "MiB"] = [ways.peak_bytes[name] / MIB]
    for weights, rate in found.items():
        samples[f"bare product, {weights}", "Gop/s"].append(rate)


def floor_s(shape: WanShape, tflop_per_s: float) -> float:
    """What the steps would take at best: all their operations at one rate, attention's too."""
    return STEPS * shape.operations / tflop_per_s / 1e12


def ideal_s(shape: WanShape, weights: str, found: Mapping[str, float]) -> float:
    """The same at rates `found` by weights, Gop/s: attention at the native one, as no weights change it."""
    return STEPS * (shape.linear_operations / found[weights] + shape.attention_operations / found["native"]) / 1e9


@torch.inference_mode()
def rates(family: Wan, shape: WanShape) -> dict[str, float]:
    """Gop/s of a block's largest product and nothing else, by the weights it would be of; those that the device has."""
    device, product = family.device, (shape.tokens, shape.channels, shape.hidden)
    found = product_rates(device, product)
    by_weights = {"native": found[product_of("native", family.dtype, device)]}
    if "int8 product" in found:
        by_weights["int8"] = found["int8 product"]
    if fp8_product_refusal(device) is None:
        by_weights["fp8"] = fp8_rate(device, product)
    return by_weights


def fp8_rate(device: torch.device, product: Shape) -> float:
    """That of codes in e4m3 with a scale a row. `product`: rows, inner, columns, the last two multiples of 16."""
    rows, inner, columns = product
    (x, x_scale), (y, y_scale) = (quantize_fp8(torch.randn(side, inner, device=device)) for side in (rows, columns))
    seconds = []
    for _ in range(REPEATS):
        meter = Meter(device)
        with meter.stage("denoise"):
            torch._scaled_mm(x, y.t(), scale_a=x_scale[:, None], scale_b=y_scale[None, :], out_dtype=torch.bfloat16)
        seconds.append(meter.total_s)
    return 2 * rows * inner * columns / median(seconds) / 1e9


def report(shape: WanShape, device: str, rows: Sequence[Row], count: int, output: Path) -> None:
    """Measures, prints the table and writes the file."""
    machine = describe(device)  # before anything of ours is part of its load
    found = measure(shape, device, rows, count)
    print_table(f"Wan, {shape.tokens} tokens, random weights, on {machine['device']}", found.measures)
    for name, line in found.refused.items():
        print(f"{name}: cannot be here: {line}")
    about = {
        "bench": "wan",
        "machine": machine,
        "shape": asdict(shape),
        "tflop_a_forward": shape.operations / 1e12,
        "seed": SEED,
        "rounds": count,
        "rows": {row.name: asdict(row.levers) for row in rows},
        "attention": found.attention.model_dump(mode="json"),
        "refused": found.refused,
    }
    write_json(output, about, found.measures)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.wan", description="The bench of Wan's levers on a GPU.")
    names = [row.name for row in ROWS]
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", nargs="+", choices=names, default=names, help="beside stock's and the plain one")
    parser.add_argument("--output", type=Path, default=Path("bench/results/wan-cuda.json"))
    arguments = parser.parse_args(words)
    if not torch.cuda.is_available():
        parser.exit(2, "bench.wan needs a CUDA device, and there is none here\n")
    rows = [row for row in ROWS if row.name in arguments.rows]
    report(WAN_1_3B, "cuda", rows, arguments.rounds, arguments.output)


if __name__ == "__main__":
    main()

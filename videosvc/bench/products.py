"""The product that a denoising step makes most of, in every way there is: what the step's own rate is held against."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from videosvc.config.models import ModelEntry
from videosvc.engine.meter import Meter
from videosvc.engine.plan import Plan
from videosvc.families.base import Family
from videosvc.families.checks import read_json
from videosvc.families.latent_spec import LatentSpec
from videosvc_kernels import Int8Linear
from videosvc_kernels.int8_linear import int8_product, int8_refusal, padded_int8_product

REPEATS = 20  # of one product

Shape = tuple[int, int, int]  # rows, inner, columns


def largest_product(entry: ModelEntry, spec: LatentSpec, plan: Plan) -> Shape:
    """A chunk's tokens into the hidden layer of a block's feed-forward."""
    config = read_json(entry.name, entry.folder(), "transformer/config.json")
    tokens = spec.chunk * (plan.width // spec.grid) * (plan.height // spec.grid)
    return tokens, config["num_attention_heads"] * config["attention_head_dim"], config["ffn_dim"]


@torch.inference_mode()
def product_rates(device: torch.device, shape: Shape) -> dict[str, float]:
    """Billions of operations a second by name, the median of repeats; int8 only where the device has it."""
    rows, inner, columns = shape
    linear = nn.Linear(inner, columns).to(device)
    half = nn.Linear(inner, columns).to(device, torch.bfloat16)
    x = torch.randn(rows, inner, device=device)
    y = x.bfloat16()
    ways: dict[str, Callable[[], Tensor]] = {
        "float32 product": lambda: F.linear(x, linear.weight),
        "bfloat16 product": lambda: F.linear(y, half.weight),
        "float32 layer": lambda: linear(x),
    }
    if int8_refusal(device) is None:
        low = Int8Linear.of(linear)
        codes = torch.randint(-127, 128, (rows, inner), dtype=torch.int8, device=device)
        product = int8_product if device.type == "cpu" else padded_int8_product
        ways |= {"int8 product": lambda: product(codes, low.codes), "int8 layer": lambda: low(x)}
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(REPEATS):
        for name, way in ways.items():
            meter = Meter(device)
            with meter.stage("denoise"):
                way()
            seconds[name].append(meter.total_s)
    operations = 2 * rows * inner * columns
    return {name: operations / median(taken) / 1e9 for name, taken in seconds.items()}


def product_of(weights: str, dtype: torch.dtype) -> str:
    """Which of them a step's linear layers come to."""
    if weights == "int8":
        return "int8 product"
    return "float32 product" if dtype == torch.float32 else "bfloat16 product"


@torch.inference_mode()
def step_operations(family: Family, plan: Plan) -> int:
    """Operations of one step, as torch counts them: those of its linear layers; attention on the CPU is not counted.

    `family`: with native weights, since int8 products are not counted either.
    """
    spec = family.spec
    text = family.encode_text("", "" if plan.guidance_scale > 1.0 else None)
    clip = family.open_clip(plan.width, plan.height, text, plan.guidance_scale)
    shape = (1, spec.channels, spec.chunk, plan.height // spec.spatial, plan.width // spec.spatial)
    with FlopCounterMode(display=False) as counter:
        clip.denoise(torch.zeros(shape, device=family.device), 1.0, 0.5)
    operations: int = counter.get_total_flops()
    return operations

"""What a denoising step is held against: the matrix products that it is made of, and nothing else.

In two ways. Alone, the largest of them is repeated, its weights in the cache: what the processor can do. In sequence,
all of one step run in the step's own order and shapes, each with its own layer's weights, which then come from memory,
as they do in the step: what a step could reach if all else in it took no time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videosvc.config.models import ModelEntry
from videosvc.engine.meter import Meter
from videosvc.engine.plan import Plan
from videosvc.families.base import Family
from videosvc.families.checks import read_json
from videosvc.families.latent_spec import LatentSpec
from videosvc.families.lean_block import layer_by_layer
from videosvc_kernels import Int8Linear, LowBitLinear, int8_product_refusal, int8_refusal
from videosvc_kernels.int8_linear import int8_product, padded_int8_product

REPEATS = 20  # of one product
PASSES = 5  # of a step's

Shape = tuple[int, int, int]  # rows, inner, columns


def largest_product(entry: ModelEntry, spec: LatentSpec, plan: Plan) -> Shape:
    """A chunk's tokens into the hidden layer of a block's feed-forward."""
    config = read_json(entry.name, entry.folder(), "transformer/config.json")
    tokens = spec.chunk * (plan.width // spec.grid) * (plan.height // spec.grid)
    return tokens, config["num_attention_heads"] * config["attention_head_dim"], config["ffn_dim"]


@torch.inference_mode()
def product_rates(device: torch.device, shape: Shape) -> dict[str, float]:
    """Billions of operations a second by name, the median of repeats; int8 only where the device multiplies it."""
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
    if int8_refusal(device) is None and int8_product_refusal(device) is None:
        low = Int8Linear.of(linear)
        codes = torch.randint(-127, 128, (rows, inner), dtype=torch.int8, device=device)
        product = int8_product if device.type == "cpu" else padded_int8_product
        ways |= {"int8 product": lambda: product(codes, low.codes), "int8 layer": lambda: low(x)}
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(REPEATS):
        for name, way in ways.items():
            seconds[name].append(_seconds(device, way))
    operations = 2 * rows * inner * columns
    return {name: operations / median(taken) / 1e9 for name, taken in seconds.items()}


def product_of(weights: str, dtype: torch.dtype, device: torch.device) -> str:
    """Which of them a step's linear layers come to."""
    if weights == "int8" and int8_product_refusal(device) is None:
        return "int8 product"
    return "float32 product" if dtype == torch.float32 else "bfloat16 product"


@dataclass(frozen=True, slots=True, eq=False)
class StepProducts:
    """All linear layers of one step, in order, as bare products: no bias, no scales, nothing quantised on the way."""

    device: torch.device
    products: tuple[Callable[[], Tensor], ...]
    operations: int

    @torch.inference_mode()
    def seconds(self) -> float:
        """What one pass takes, the median of a few."""

        def run() -> None:
            for product in self.products:
                product()

        return median(_seconds(self.device, run) for _ in range(PASSES))


@torch.inference_mode()
def step_products(native: Family, family: Family, plan: Plan) -> StepProducts:
    """Those of a step of `plan`, with the weights that `family` has, each layer's in the type it was loaded in.

    `native`: the same model with no lever pulled, which tells the layers by calling them, lean blocks each by itself:
    compiled or fused blocks do not.
    """
    spec = native.spec
    text = native.encode_text("", "" if plan.guidance_scale > 1.0 else None)
    clip = native.open_clip(plan.width, plan.height, text, plan.guidance_scale)
    latents = torch.zeros(
        (1, spec.channels, spec.chunk, plan.height // spec.spatial, plan.width // spec.spatial), device=native.device
    )
    called: list[tuple[str, Tensor]] = []  # the layer's name, and its input, a row a token
    hooks = [
        layer.register_forward_pre_hook(
            lambda _, inputs, name=name: called.append((name, inputs[0].reshape(-1, inputs[0].shape[-1])))
        )
        for name, layer in native.transformer.named_modules()
        if isinstance(layer, nn.Linear)
    ]
    try:
        with layer_by_layer(native.transformer):
            clip.denoise(latents, 1.0, 0.5)
    finally:
        for hook in hooks:
            hook.remove()
        clip.close()
    layers = dict(family.transformer.named_modules())
    products: list[Callable[[], Tensor]] = []
    inputs_of: dict[tuple[torch.Size, torch.dtype], Tensor] = {}  # one of a kind: a step's own are in the cache, too
    for name, x in called:
        bare = _bare_input(layers[name], x.to(family.dtype))
        products.append(_bare(layers[name], inputs_of.setdefault((bare.shape, bare.dtype), bare)))
    operations = sum(2 * x.numel() * layers[name].out_features for name, x in called)
    return StepProducts(family.device, tuple(products), operations)


def _multiplies_int8(layer: Any) -> bool:
    return isinstance(layer, Int8Linear) and not layer.storage_only


def _bare_input(layer: Any, x: Tensor) -> Tensor:
    """Any numbers, of the shape of `x` and the type that the layer multiplies."""
    if _multiplies_int8(layer):
        return torch.randint(-127, 128, x.shape, dtype=torch.int8, device=x.device)
    return torch.randn_like(x)


def _bare(layer: Any, x: Tensor) -> Callable[[], Tensor]:
    if _multiplies_int8(layer):
        return partial(int8_product if x.device.type == "cpu" else padded_int8_product, x, layer.codes)
    if isinstance(layer, LowBitLinear):  # stored in few bits, and multiplied in those of x; fp8 on most devices
        return partial(layer, x)
    return partial(F.linear, x, layer.weight)


def _seconds(device: torch.device, work: Callable[[], object]) -> float:
    meter = Meter(device)
    with meter.stage("denoise"):
        work()
    return meter.total_s

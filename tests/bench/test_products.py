"""That a step is held against the products that it is made of. What they take is no test's business."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tiny_model import make_tiny_checkpoint
from videosvc.bench.products import step_products
from videosvc.engine.plan import Plan
from videosvc.families.anyflow_far import AnyFlowFAR
from videosvc.families.load_levers import LoadLevers

PLAN = Plan(
    model="tiny", prompt="a red circle", negative_prompt=None, seed=1, width=64, height=64, fps=8, seconds=2.0,
    steps=4, sampler="flow_map", guidance_scale=1.0, weights="native", frame_cache="native", decode="stream",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


def load(folder: Path, weights: str) -> AnyFlowFAR:
    return AnyFlowFAR("tiny", folder, 1, torch.device("cpu"), torch.float32, LoadLevers(weights))


@torch.inference_mode()
def test_every_product_of_a_step_once_with_its_own_weights(folder: Path) -> None:
    family = load(folder, "native")
    products = step_products(family, family, PLAN)
    clip = family.open_clip(64, 64, family.encode_text("", None), 1.0)
    with FlopCounterMode(display=False) as step:
        clip.denoise(torch.zeros(1, 16, 2, 8, 8), 1.0, 0.5)
    counted = step.get_flop_counts()["Global"]
    multiplied = sum(count for kind, count in counted.items() if str(kind) in ("aten.addmm", "aten.mm"))
    assert products.operations == multiplied > 0
    with FlopCounterMode(display=False) as bare:
        assert products.seconds() > 0
    assert bare.get_total_flops() % products.operations == 0  # nothing but them, a few times over
    weights = [product.args[1] for product in products.products if isinstance(product, partial)]
    assert len({weight.data_ptr() for weight in weights}) == len(weights) == len(products.products)


@pytest.mark.usefixtures("int8_products")
def test_in_int8_they_are_int8_products(folder: Path) -> None:
    plain = load(folder, "native")
    products, native = (step_products(plain, load(folder, weights), PLAN) for weights in ("int8", "native"))
    assert products.operations == native.operations
    types = {product.args[1].dtype for product in products.products if isinstance(product, partial)}
    assert types == {torch.int8, torch.float32}  # what is outside the blocks stays
    assert products.seconds() > 0
    answers = [product() for product in products.products]
    assert {answer.dtype for answer in answers} == {torch.int32, torch.float32}
    assert [answer.shape for answer in answers] == [product().shape for product in native.products]


def test_under_guidance_a_step_is_two_rows(folder: Path) -> None:
    family = load(folder, "native")
    one, two = (step_products(family, family, replace(PLAN, guidance_scale=scale)).operations for scale in (1.0, 2.0))
    assert one < two <= 2 * one

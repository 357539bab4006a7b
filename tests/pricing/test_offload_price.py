"""What stays on the CPU until it is used takes time to come and go, and quotes count it before anything is measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from videosvc.config.models import ModelEntry
from videosvc.config.settings import Settings
from videosvc.engine.plan import Plan
from videosvc.pricing.coefficients import COPY_BYTES_S
from videosvc.pricing.cost_model import CostModel
from videosvc.pricing.shape import ModelShape


def stages(settings: Settings, entry: ModelEntry, plan: Plan, *offload: str) -> dict[str, float]:
    estimate = CostModel(settings.data_dir, "NVIDIA H200").estimate(plan, entry.model_copy(update={"offload": offload}))
    assert not estimate.calibrated
    return dict(estimate.by_stage)


def test_each_part_is_paid_where_it_is_used(
    settings: Settings, entry: ModelEntry, shape: ModelShape, plan: Plan
) -> None:
    plan = replace(plan, seconds=1.0)  # a chunk
    without = stages(settings, entry, plan)
    text, vae = (stages(settings, entry, plan, part) for part in ("text_encoder", "vae"))
    both = stages(settings, entry, plan, "text_encoder", "vae")
    there_and_back = 2 * 2 * shape.text_weights / COPY_BYTES_S
    assert text == pytest.approx(without | {"text": without["text"] + there_and_back})
    assert vae["decode"] > without["decode"] and vae == pytest.approx(without | {"decode": vae["decode"]})
    assert both == pytest.approx(without | {"text": text["text"], "decode": vae["decode"]})
    tiny = replace(plan, decode="tiny")
    assert stages(settings, entry, tiny, "vae") == pytest.approx(stages(settings, entry, tiny))

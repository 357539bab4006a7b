from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from videosvc.config.models import ModelEntry, load_model
from videosvc.errors import ModelError
from videosvc.families.anyflow_far import AnyFlowFAR
from videosvc.families.load_levers import NO_LEVERS, LoadLevers
from videosvc.worker.warm_models import WarmModels


@pytest.fixture
def entries(folder: Path) -> dict[str, ModelEntry]:
    one = load_model(folder, "toyworld")
    return {name: one.model_copy(update={"name": name}) for name in ("a", "b", "c")}


def test_the_least_recently_used_makes_room(entries: dict[str, ModelEntry]) -> None:
    models = WarmModels("cpu", 2)
    a, b = models.get(entries["a"]), models.get(entries["b"])
    assert models.get(entries["a"]) is a
    models.get(entries["c"])
    assert models.names == ("a", "c")
    assert models.get(entries["a"]) is a
    assert models.get(entries["b"]) is not b
    assert models.names == ("a", "b")


def test_what_made_room_is_gone_before_the_next_is_loaded(
    entries: dict[str, ModelEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = WarmModels("cpu", 1)
    before = weakref.ref(models.get(entries["a"]).family)
    whole = AnyFlowFAR.__init__

    def looks(self: AnyFlowFAR, *arguments: Any, **options: Any) -> None:
        assert before() is None
        whole(self, *arguments, **options)

    monkeypatch.setattr(AnyFlowFAR, "__init__", looks)
    models.get(entries["b"])
    assert models.names == ("b",)


def test_another_entry_is_loaded_anew(entries: dict[str, ModelEntry]) -> None:
    models = WarmModels("cpu", 2)
    before = models.get(entries["a"])
    edited = entries["a"].model_copy(update={"window_chunks": 2})
    assert models.has(entries["a"], NO_LEVERS) and not models.has(edited, NO_LEVERS)
    changed = models.get(edited)
    assert changed is not before
    assert models.names == ("a",)


def test_other_weights_are_another_engine(entries: dict[str, ModelEntry], tmp_path: Path) -> None:
    models = WarmModels("cpu", 2, tmp_path / "quantized")
    native, low = models.get(entries["a"]), models.get(entries["a"], LoadLevers("int8"))
    assert (native.family.levers.weights, low.family.levers.weights) == ("native", "int8")
    assert models.get(entries["a"], LoadLevers("int8")) is low and models.get(entries["a"]) is native
    assert models.has(entries["a"], LoadLevers("int8")) and not models.has(entries["b"], LoadLevers())
    assert len(list((tmp_path / "quantized").iterdir())) == 1  # the next process need not measure


def test_what_cannot_be_loaded_leaves_the_others(entries: dict[str, ModelEntry], tmp_path: Path) -> None:
    models = WarmModels("cpu", 2)
    a = models.get(entries["a"])
    with pytest.raises(ModelError):
        models.get(entries["b"].model_copy(update={"path": str(tmp_path / "nowhere")}))
    assert models.get(entries["a"]) is a


def test_a_model_that_does_not_fit_beside_others_gets_the_device_alone(
    entries: dict[str, ModelEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = WarmModels("cpu", 2)
    models.get(entries["a"])
    whole = AnyFlowFAR.__init__

    def crowded(self: AnyFlowFAR, *arguments: Any, **options: Any) -> None:
        if models.names:
            raise torch.OutOfMemoryError("CUDA out of memory")
        whole(self, *arguments, **options)

    monkeypatch.setattr(AnyFlowFAR, "__init__", crowded)
    models.get(entries["b"])
    assert models.names == ("b",)

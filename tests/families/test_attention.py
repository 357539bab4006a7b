"""Which kernel attends: what calibration measured where models.toml says auto, else what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tiny_wan import make_tiny_wan
from videosvc.config.json_file import write_json_file
from videosvc.config.models import AttentionName, ModelEntry
from videosvc.engine.generate import Engine
from videosvc.errors import ModelError
from videosvc.families import attention_choice
from videosvc.families.attention_backend import MEASURED, attention_refusal
from videosvc.families.attention_choice import AttentionChoice, choice_path, chosen, installed, load_choice
from videosvc.families.registry import load_family
from videosvc.families.wan import Wan
from videosvc.pricing.calibrate_attention import measure_attention

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_wan(tmp_path_factory.mktemp("wan"))


@pytest.fixture
def entry(folder: Path) -> ModelEntry:
    return ModelEntry(
        name="film", path=str(folder), family="wan", sizes=("32x32",), min_side=32, attention="auto",
        defaults={"seconds": 0.6},
    )  # fmt: skip


def backends(family: object) -> set[str]:
    assert isinstance(family, Wan)
    return {block.attn1.processor._attention_backend.value for block in family.transformer.blocks}


def kept_choice(kept: Path, seconds: dict[AttentionName, float]) -> AttentionChoice:
    choice = AttentionChoice(
        device="cpu", model="film", size="32x32", frames=5, versions=installed(), seconds=seconds, refused={}
    )
    write_json_file(choice_path(kept, "film", "cpu"), choice)
    return choice


def test_what_was_measured_is_what_it_is_loaded_with(entry: ModelEntry, tmp_path: Path) -> None:
    assert backends(load_family(entry, CPU, torch.float32)) == {"native"}
    assert backends(load_family(entry, CPU, torch.float32, kept=tmp_path)) == {"native"}
    choice = kept_choice(tmp_path, {"native": 2.0, "math": 1.0})
    assert load_choice(tmp_path, "film", "cpu") == choice and choice.best == "math"
    assert backends(load_family(entry, CPU, torch.float32, kept=tmp_path)) == {"_native_math"}
    named = entry.model_copy(update={"attention": "native"})
    assert backends(load_family(named, CPU, torch.float32, kept=tmp_path)) == {"native"}


def test_other_packages_damage_and_other_devices_mean_unmeasured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_choice(tmp_path, {"native": 2.0, "math": 1.0})
    assert chosen("auto", tmp_path, "film", "cpu") == "math"
    assert chosen("auto", tmp_path, "film", "NVIDIA H200") == chosen("auto", tmp_path, "other", "cpu") == "native"
    with monkeypatch.context() as patch:
        patch.setattr(attention_choice, "version", lambda package: "99.0")
        assert chosen("auto", tmp_path, "film", "cpu") == "native"
    path = choice_path(tmp_path, "film", "cpu")
    path.write_text(path.read_text().replace('"math"', '"maths"'))
    assert chosen("auto", tmp_path, "film", "cpu") == "native"


def test_every_backend_is_tried_and_the_fastest_stays(entry: ModelEntry) -> None:
    family = load_family(entry, CPU, torch.float32)
    now, names = 0.0, []

    def clock() -> float:
        """On which a step by native takes two seconds, and one by another kernel one."""
        nonlocal now
        names.append(backends(family))
        now += 2.0 if backends(family) == {"native"} else 1.0
        return now

    choice = measure_attention(Engine(family, clock), entry, ("native", "math", "flash"))
    assert choice.seconds == {"native": 2.0, "math": 1.0} and choice.best == "math"
    assert choice.refused == {"flash": "attention = 'flash' needs a GPU, and this is a cpu"}
    assert (choice.size, choice.frames, choice.device) == ("32x32", 5, "cpu")
    assert backends(family) == {"_native_math"}
    warming, turns = names[:2], names[2::2]  # of the others two moments each
    assert warming == [{"native"}, {"_native_math"}]
    assert turns == warming * (len(turns) // 2)


def test_a_kernel_that_fails_in_a_step_is_left_out(entry: ModelEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    family = load_family(entry, CPU, torch.float32)
    forward = family.transformer.forward

    def failing(*words: object, **more: object) -> object:
        if backends(family) != {"native"}:
            raise RuntimeError("no kernel image is available\nand more")
        return forward(*words, **more)

    monkeypatch.setattr(family.transformer, "forward", failing)
    choice = measure_attention(Engine(family), entry, ("native", "math"))
    assert choice.refused == {"math": "no kernel image is available"} and choice.best == "native"
    assert backends(family) == {"native"}


def test_on_a_cpu_only_native_counts() -> None:
    assert [name for name in MEASURED if attention_refusal(name, CPU) is None] == ["native"]
    assert not {"math", "sage"} & set(MEASURED)  # one fuses nothing, the other changes clips


@pytest.mark.parametrize(
    ("name", "flag", "package"),
    [
        ("flash", "_CAN_USE_FLASH_ATTN", "flash-attn"),
        ("sage", "_CAN_USE_SAGE_ATTN", "sageattention"),
        ("xformers", "_CAN_USE_XFORMERS_ATTN", "xformers"),
    ],
)
def test_a_gpu_needs_the_package(name: str, flag: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for there in (False, True):
        monkeypatch.setattr(f"diffusers.models.attention_dispatch.{flag}", there)
        refusal = attention_refusal(name, torch.device("cuda"))
        if there:
            assert refusal is None
        else:
            assert refusal is not None and refusal.startswith(f"attention = {name!r} cannot be: ")
            assert f"install `{package}" in refusal and "\n" not in refusal


def test_one_named_that_cannot_be_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="attention = 'xformers' needs a GPU, and this is a cpu"):
        Wan("tiny", folder, CPU, torch.float32, attention="xformers")

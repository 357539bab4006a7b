from __future__ import annotations

import json
from pathlib import Path

import pytest

from videosvc.cli.main import run
from videosvc.families.checksums import write_sums


def test_list(tiny_configs: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line a model, whole, though a path may be long: a pipe has no width."""
    assert run(["models", "list"]) == 0
    _, *rows = capsys.readouterr().out.splitlines()
    assert [row.split()[:2] for row in rows] == [["toyworld", "anyflow_far"]]
    assert rows[0].rstrip().endswith(str(tiny_checkpoint))


@pytest.mark.usefixtures("tiny_configs")
def test_check_by_name_says_what_it_is_and_which_levers(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "check", "toyworld"]) == 0
    out = capsys.readouterr().out
    assert "family anyflow_far: AnyFlowFARTransformer3DModel and CausalConvAutoencoder" in out
    assert "lever weights='native' is supported" in out
    assert "lever weights='int8' is supported" in out
    assert "lever weights='fp8' is supported: saves memory, no time: cpu has no fp8 products" in out
    assert "lever frame_cache='off' makes no sense for family anyflow_far (every step" in out


@pytest.mark.usefixtures("tiny_configs")
def test_check_refuses_what_this_device_cannot(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from videosvc.families import block_levers

    monkeypatch.setattr(block_levers, "int8_refusal", lambda device: f"the int8 matrix product of {device} overflows")
    monkeypatch.setattr(block_levers, "fp8_refusal", lambda device: f"{device} stores no fp8")
    monkeypatch.setattr(block_levers, "compile_refusal", lambda device: "there is no compiler")
    assert run(["models", "check", "toyworld"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "lever weights='int8' cannot be: the int8 matrix product of cpu overflows" in lines
    assert "lever weights='fp8' cannot be: cpu stores no fp8" in lines
    assert "lever compile=true cannot be: there is no compiler" in lines
    assert "lever decode='tiny' cannot be: model 'toyworld' has no folder tiny_decoder" in lines
    assert "lever weights='native' is supported" in lines and "lever compile='false' is supported" in lines
    assert "offload of text_encoder cannot be: it needs a GPU to come back from, and this is a cpu" in lines
    for begins in (
        "offload of vae cannot be: only an AutoencoderKLWan is worth it, and this is a CausalConvAutoencoder",
        "attention: does nothing for family anyflow_far (it has its own",
        "mag_ratios: does nothing for family anyflow_far",
    ):
        assert any(line.startswith(begins) for line in lines)


def test_check_by_path_tells_the_family(tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "check", str(tiny_checkpoint)]) == 0
    assert "family anyflow_far" in capsys.readouterr().out


def test_check_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "check", "none/such"]) == 2
    err = capsys.readouterr().err
    assert err == "error: PATH_OR_NAME: 'none/such' is unknown; there are toyworld, and no such folder\n"


@pytest.mark.parametrize("component", ["transformer", "vae", "text_encoder"])
def test_check_finds_a_truncated_file(component: str, tiny_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (weights,) = (tiny_copy / component).glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    assert run(["models", "check", str(tiny_copy)]) == 2
    assert f"{component}/{weights.name} is truncated" in capsys.readouterr().err


@pytest.mark.parametrize(
    "missing",
    [
        "model_index.json",
        "transformer/config.json",
        "text_encoder/config.json",
        "tokenizer/tokenizer.json",
        "scheduler/scheduler_config.json",
    ],
)
def test_check_finds_a_missing_file(missing: str, tiny_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tiny_copy / missing).unlink()
    assert run(["models", "check", str(tiny_copy)]) == 2
    assert f"{missing} is missing" in capsys.readouterr().err


@pytest.mark.parametrize("shift", ["three", 0, -1.0])
def test_check_reads_the_shift(shift: object, tiny_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tiny_copy / "scheduler" / "scheduler_config.json").write_text(json.dumps({"shift": shift}))
    assert run(["models", "check", str(tiny_copy)]) == 2
    says = f"scheduler/scheduler_config.json: shift = {shift!r} must be a number above 0"
    assert says in capsys.readouterr().err


def test_check_opens_the_tokenizer(tiny_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tiny_copy / "tokenizer" / "tokenizer.json").write_text("{}")
    assert run(["models", "check", str(tiny_copy)]) == 2
    assert "tokenizer/tokenizer.json cannot be read" in capsys.readouterr().err


def test_check_compares_checksums(tiny_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sums(tiny_copy)
    assert run(["models", "check", str(tiny_copy)]) == 0
    weights = tiny_copy / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4000] + b"\xff" * 4000)
    assert run(["models", "check", str(tiny_copy)]) == 2
    assert f"transformer/{weights.name} is damaged: its SHA-256" in capsys.readouterr().err
    (tiny_copy / "SHA256SUMS").write_bytes(b"\xff\0 is no sum\n")
    assert run(["models", "check", str(tiny_copy)]) == 2
    assert "SHA256SUMS: line 1 is not one of `sha256sum`" in capsys.readouterr().err


def test_check_refuses_a_transformer_of_no_family(tiny_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny_copy / "transformer" / "config.json"
    config.write_text(json.dumps({"_class_name": "LTXVideoTransformer3DModel"}))
    assert run(["models", "check", str(tiny_copy)]) == 2
    assert "no family here loads a LTXVideoTransformer3DModel" in capsys.readouterr().err


def test_check_refuses_an_autoencoder_that_nothing_loads(tiny_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny_copy / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"_class_name": "AutoencoderKLMochi"}))
    assert run(["models", "check", str(tiny_copy)]) == 2
    assert "vae/config.json: _class_name 'AutoencoderKLMochi' is not one of" in capsys.readouterr().err


def test_check_finds_a_damaged_number(tiny_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tiny_copy / "transformer" / "config.json"
    config = json.loads(file.read_text())
    del config["attention_head_dim"]
    file.write_text(json.dumps(config))
    assert run(["models", "check", str(tiny_copy)]) == 2
    says = "error: model 'copy': transformer/config.json: attention_head_dim: is missing\n"
    assert capsys.readouterr().err == says


def test_check_by_name_finds_a_grid_that_does_not_fit(tiny_configs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = tiny_configs / "models.toml"
    models.write_text(models.read_text().replace("grid = 16", "grid = 8"))
    assert run(["models", "check", "toyworld"]) == 2
    says = "error: model 'toyworld': grid = 8 in models.toml must be a multiple of 16, the checkpoint's\n"
    assert capsys.readouterr().err == says

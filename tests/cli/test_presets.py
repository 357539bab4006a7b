from __future__ import annotations

from pathlib import Path

import pytest

from known_configs import preset_text
from videosvc.cli.main import run
from videosvc.config.settings import CHECKOUT_CONFIGS

DRAFT = CHECKOUT_CONFIGS / "presets" / "draft.toml"


def test_list_names_every_preset(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["presets", "list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("draft", "balanced", "quality", "reference"))


def test_a_list_that_nobody_looks_at_has_a_line_a_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "made [bold] by " + " ".join(["tune"] * 30)
    (tmp_path / "presets").mkdir()
    text = preset_text("draft")
    (line,) = [line for line in text.splitlines() if line.startswith("description")]
    (tmp_path / "presets" / "draft.toml").write_text(text.replace(line, f'description = "{long}"'))
    monkeypatch.setenv("VIDEOSVC_CONFIG_DIR", str(tmp_path))
    assert run(["presets", "list"]) == 0
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.startswith("name") and row.startswith("draft") and row.rstrip().endswith(long)


def test_show_prints_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["presets", "show", "draft"]) == 0
    assert capsys.readouterr().out == DRAFT.read_text()


def test_show_of_an_unknown_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["presets", "show", "ultra"]) == 2
    assert capsys.readouterr().err.startswith("error: NAME: 'ultra' is unknown; there are balanced")


def test_check_accepts_a_good_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["presets", "check", str(DRAFT)]) == 0
    assert capsys.readouterr().out == f"{DRAFT}: ok, for family anyflow_far\n"


def test_check_says_where_fp8_only_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VIDEOSVC_DEVICE", "cpu")
    file = tmp_path / "draft.toml"
    file.write_text(preset_text("draft").replace('weights = "native"', 'weights = "fp8"'))
    assert run(["presets", "check", str(file)]) == 0
    says = "lever weights='fp8' saves memory, no time: cpu has no fp8 products, weights are only stored in it"
    assert capsys.readouterr().out.splitlines() == [f"{file}: ok, for family anyflow_far", says]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("steps = 2", "steps = 0", "quality.steps = 0: must be greater than or equal to 1"),
        ('frame_cache = "native"', 'frame_cache = "off"', "lever frame_cache='off' makes no sense"),
    ],
)
def test_check_refuses_a_bad_file(
    old: str, new: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "draft.toml"
    file.write_text(preset_text("draft").replace(old, new))
    assert run(["presets", "check", str(file)]) == 2
    err = capsys.readouterr().err
    assert str(file) in err and says in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("old", "new", "refusal", "says"),
    [
        ('weights = "native"', 'weights = "int8"', "int8_refusal", "lever weights='int8' cannot be: no such product"),
        ('weights = "native"', 'weights = "fp8"', "fp8_refusal", "lever weights='fp8' cannot be: no such product"),
        ("[levers]", "[levers]\ncompile = true", "compile_refusal", "lever compile=true cannot be: no such product"),
    ],
)
def test_check_refuses_what_this_device_cannot(
    old: str,
    new: str,
    refusal: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from videosvc.families import block_levers

    monkeypatch.setattr(block_levers, refusal, lambda device: "no such product")
    file = tmp_path / "draft.toml"
    file.write_text(preset_text("draft").replace(old, new))
    assert run(["presets", "check", str(file)]) == 2
    assert capsys.readouterr().err == f"error: preset {file}: {says}\n"


def test_check_refuses_a_frame_cache_that_this_device_cannot_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from videosvc.families import far_codecs

    refusal = "lever frame_cache='int8' cannot be: no kernel image"
    monkeypatch.setattr(far_codecs, "codec_refusal", lambda codec, *_: refusal if codec == "int8" else None)
    for value, code in (("int8", 2), ("int4", 0)):
        file = tmp_path / "draft.toml"
        file.write_text(preset_text("draft").replace('frame_cache = "native"', f'frame_cache = "{value}"'))
        assert run(["presets", "check", str(file)]) == code
    assert capsys.readouterr().err == f"error: preset {file}: {refusal}\n"


def test_check_of_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["presets", "check", str(tmp_path / "none.toml")]) == 2
    assert "cannot be read" in capsys.readouterr().err

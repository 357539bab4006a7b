"""`decode = "tiny"` from preset to receipt, with a model that has the decoder and one that has not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tiny_model import add_tiny_decoder
from videosvc.cli.main import run

CLIP = ["a red circle moves left", "--preset", "draft", "--seconds", "1", "--seed", "7", "--json"]


@pytest.fixture
def preset(tiny_configs: Path) -> Path:
    file = tiny_configs / "presets" / "draft.toml"
    text = file.read_text()
    file.write_text(text.replace('decode = "stream"', 'decode = "tiny"'))
    assert file.read_text() != text
    return file


@pytest.mark.usefixtures("tiny_copy")
def test_a_model_without_the_decoder_is_refused_everywhere(preset: Path, capfd: pytest.CaptureFixture[str]) -> None:
    line = "lever decode='tiny' cannot be: model 'toyworld' has no folder tiny_decoder"
    for command in (["presets", "check", str(preset)], ["quote", *CLIP]):
        assert run(command) == 2
        (said,) = capfd.readouterr().err.splitlines()
        assert said.endswith(line), command
    assert run(["models", "check", "toyworld"]) == 0
    assert line in capfd.readouterr().out.splitlines()


def test_a_model_with_it_says_so_from_quote_to_receipt(
    preset: Path, tiny_copy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def answer(*words: str) -> dict[str, object]:
        assert run([*words, *CLIP]) == 0
        found: dict[str, object] = json.loads(capfd.readouterr().out)
        return found

    add_tiny_decoder(tiny_copy)
    assert run(["presets", "check", str(preset)]) == 0
    assert run(["models", "check", "toyworld"]) == 0
    assert "lever decode='tiny' is supported" in capfd.readouterr().out

    tiny = answer("quote")
    assert tiny["plan"]["decode"] == "tiny"  # type: ignore[index]
    made = answer("generate", "-o", str(tmp_path / "clip.mp4"))
    assert made["plan"]["decode"] == "tiny"  # type: ignore[index]
    levers = [lever["name"] for lever in made["receipt"]["levers"]]  # type: ignore[index]
    assert any("decode" in name for name in levers)

    preset.write_text(preset.read_text().replace('decode = "tiny"', 'decode = "stream"'))
    assert answer("quote")["compute_seconds"] > tiny["compute_seconds"]  # type: ignore[operator]

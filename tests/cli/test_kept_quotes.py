"""A quote of `videosvc quote` binds `videosvc generate` on the same machine."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from videosvc.cli.main import run
from videosvc.config.settings import config_dir, load_settings

PROMPT = "a red circle moves left"
QUICK = ["--preset", "draft", "--seconds", "1"]

pytestmark = pytest.mark.usefixtures("tiny_configs")


def quoted(capfd: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert run(["quote", PROMPT, *QUICK, *words, "--json"]) == 0
    quote: dict[str, Any] = json.loads(capfd.readouterr().out)
    return quote


def test_a_quote_is_the_plan_and_the_price_of_the_clip(
    tmp_path: Path, tiny_configs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    quote = quoted(capfd)
    preset = tiny_configs / "presets" / "draft.toml"
    preset.write_text(preset.read_text().replace("steps = 2", "steps = 3"))  # is for later quotes
    make = ["generate", PROMPT, "-o", str(tmp_path / "a.mp4"), "--quote-id", quote["id"], "--json"]
    for again in ([], QUICK, ["--seconds", "1.00"]):
        assert run([*make, *again]) == 0
        answer = json.loads(capfd.readouterr().out)
        assert answer["quote"] == quote
        assert answer["plan"]["steps"] == quote["plan"]["steps"] == 2
        assert answer["receipt"]["charged_usd"] <= answer["receipt"]["quoted_usd"] == quote["price_usd"]
    assert quoted(capfd)["plan"]["steps"] == 3


def test_people_are_told_how_to_take_it_up(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["quote", PROMPT, *QUICK]) == 0
    told = capfd.readouterr().out.splitlines()[-1]
    assert told.startswith("`videosvc generate` makes it at this price for 10 minutes: --quote-id quote_")


def test_what_was_not_quoted_is_refused_by_name(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    quote_id = quoted(capfd, "--max-cost", "0.01")["id"]
    clip = tmp_path / "a.mp4"
    picture = tmp_path / "a.png"
    Image.new("RGB", (90, 60), "red").save(picture)
    for words, says in (
        ([PROMPT, "--quote-id", quote_id, "--seconds", "2"], "--seconds: '1.0' was quoted"),
        ([PROMPT, "--quote-id", quote_id, "--size", "64x64"], "--size: it was not given"),
        ([PROMPT, "--quote-id", quote_id, "--on-cap", "reject"], "--on-cap: it was not given"),
        ([PROMPT, "--quote-id", quote_id, "--max-cost", "0.02"], "--max-cost: '0.01' was quoted"),
        (["a blue car drives", "--quote-id", quote_id], f"PROMPT: {PROMPT!r} was quoted"),
        ([PROMPT, "--quote-id", quote_id, "--input-reference", str(picture)], "--input-reference: give what was"),
        ([PROMPT, "--quote-id", "quote_none"], "--quote-id: there is no quote 'quote_none' on this machine"),
        ([PROMPT, "--quote-id", "../../etc/passwd"], "--quote-id: there is no quote '../../etc/passwd'"),
    ):
        assert run(["generate", *words, "-o", str(clip)]) == 2
        assert capfd.readouterr().err.startswith(f"error: {says}")
    assert not clip.exists()


def test_a_picture_that_was_quoted_must_come_along(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    picture = ["--input-reference", str(tmp_path / "a.png")]
    Image.new("RGB", (90, 60), "red").save(tmp_path / "a.png")
    quote_id = quoted(capfd, *picture)["id"]
    make = ["generate", PROMPT, "-o", str(tmp_path / "a.mp4"), "--quote-id", quote_id]
    assert run(make) == 2
    assert capfd.readouterr().err.startswith("error: --input-reference: ")
    assert run([*make, *picture]) == 0


def test_an_expired_quote_is_refused_and_goes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    quote = quoted(capfd)
    later = quote["expires_at"] + 1.0
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: later)
        assert run(["generate", PROMPT, "-o", str(tmp_path / "a.mp4"), "--quote-id", quote["id"]]) == 2
    assert capfd.readouterr().err == "error: --quote-id: this quote has expired; ask for a new one\n"
    folder = load_settings(config_dir()).data_dir / "quotes"
    os.utime(folder / f"{quote['id']}.json", (1, 1))
    following = quoted(capfd)
    assert [path.stem for path in folder.iterdir()] == [following["id"]]


@pytest.mark.parametrize(
    ("whole", "damaged", "says"),
    [
        ("{", "", "there is no quote"),
        ('"price_usd"', '"price_eur"', "this quote is of another version"),
        ('"tier_prices": {', '"tier_prices": 7, "x": {', "this quote is of another version"),
        ('"price_usd": "0', '"price_usd": "nan0', "this quote is of another version"),
    ],
)
def test_a_damaged_quote_is_no_quote(
    whole: str, damaged: str, says: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    quote_id = quoted(capfd)["id"]
    path = load_settings(config_dir()).data_dir / "quotes" / f"{quote_id}.json"
    path.write_text(path.read_text().replace(whole, damaged))
    assert run(["generate", PROMPT, "-o", str(tmp_path / "a.mp4"), "--quote-id", quote_id]) == 2
    assert capfd.readouterr().err.startswith(f"error: --quote-id: {says}")


def test_where_nothing_can_be_kept_the_quote_says_that_it_does_not_bind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "quotes").write_text("in the way")
    monkeypatch.setenv("VIDEOSVC_DATA_DIR", str(tmp_path / "data"))
    assert run(["quote", PROMPT, *QUICK]) == 0
    out, err = capfd.readouterr()
    assert out.endswith("\nit does not bind, as it could not be kept\n")
    assert err.startswith("warning: this quote does not bind, as it cannot be kept: ") and len(err.splitlines()) == 1


def test_it_is_nobody_elses_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEOSVC_DATA_DIR", str(tmp_path / "data"))
    assert run(["quote", PROMPT, *QUICK]) == 0
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0


def test_a_quote_is_for_one_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("videosvc.cli.quote.device_name", lambda device: "NVIDIA H200")
    quote_id = quoted(capfd)["id"]
    assert run(["generate", PROMPT, "-o", str(tmp_path / "a.mp4"), "--quote-id", quote_id]) == 2
    says = "this quote is for NVIDIA H200, and this is cpu; ask for a new one"
    assert capfd.readouterr().err == f"error: --quote-id: {says}\n"

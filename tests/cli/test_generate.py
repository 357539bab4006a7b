from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from videosvc.cli.main import run
from videosvc.engine.budget import Budget, ComputeCapExceeded
from videosvc.engine.events import Event
from videosvc.engine.generate import Engine
from videosvc.errors import GenerationError
from videosvc.families.checksums import write_sums

PROMPT = "a red circle moves left"
QUICK = ["--preset", "draft", "--seconds", "1", "--seed", "7"]

pytestmark = pytest.mark.usefixtures("tiny_configs")


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    return folder


def test_json_is_one_object_alone_on_stdout(clips: Path, capfd: pytest.CaptureFixture[str]) -> None:
    clip = clips / "a.mp4"
    assert run(["generate", PROMPT, "-o", str(clip), *QUICK, "--json"]) == 0
    out, err = capfd.readouterr()
    answer = json.loads(out)
    assert list(answer) == ["output", "plan", "quote", "receipt"]
    assert answer["output"] == str(clip)
    assert answer["quote"]["object"] == "quote" and not answer["quote"]["calibrated"]
    assert answer["plan"]["traded"] == answer["quote"]["traded"] == []
    receipt = answer["receipt"]
    assert 0 < receipt["charged_usd"] <= receipt["quoted_usd"] == answer["quote"]["price_usd"]
    assert (answer["plan"]["size"], answer["plan"]["frames"], answer["plan"]["seed"]) == ("64x64", 8, 7)
    assert set(answer["receipt"]["by_stage"]) == {"text", "denoise", "decode", "mux"}
    assert err == ""
    assert clip.read_bytes()[4:8] == b"ftyp"
    assert list(clips.iterdir()) == [clip]


def test_the_summary_tells_file_size_length_and_compute(
    clips: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clip = clips / "a.mp4"
    assert run(["generate", PROMPT, "-o", str(clip), *QUICK]) == 0
    out, _ = capfd.readouterr()
    first, second, third, fourth = out.splitlines()
    assert first == f"{clip}: 64x64, 1 s, 8 frames at 8 fps"
    assert second == "model toyworld, preset draft: 2 steps of flow_map, seed 7"
    assert third.startswith("compute ") and "denoise" in third
    assert fourth.startswith("price 0.0000") and "quoted" in fourth


def test_a_cap_trades_and_says_so(clips: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [PROMPT, "-o", str(clips / "a.mp4"), "--seconds", "1", "--seed", "7", "--preset", "quality"]
    assert run(["quote", PROMPT, *words[3:], "--json"]) == 0
    whole = json.loads(capfd.readouterr().out)["price_usd"]
    assert run(["generate", *words, "--max-cost", f"{0.9 * whole:.9f}", "--json"]) == 0
    answer = json.loads(capfd.readouterr().out)
    assert answer["plan"]["size"] != "128x128" and answer["plan"]["seconds"] == 1.0
    assert answer["plan"]["traded"][0]["what"] == "size"
    assert answer["receipt"]["charged_usd"] <= answer["quote"]["price_usd"] <= 0.9 * whole


def test_compute_stays_below_its_cap(clips: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [PROMPT, "-o", str(clips / "a.mp4"), "--seconds", "1", "--seed", "7", "--preset", "quality"]
    assert run(["generate", *words, "--max-compute", "30", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["receipt"]["compute_seconds"] <= 30


@pytest.mark.parametrize(
    ("cap", "names"),
    [(["--max-cost", "0.000000001"], "--max-cost: 0.000000001"), (["--max-compute", "0.001"], "--max-compute: 0.001")],
)
def test_a_cap_that_nothing_fits_is_refused(
    clips: Path, capfd: pytest.CaptureFixture[str], cap: list[str], names: str
) -> None:
    assert run(["generate", PROMPT, "-o", str(clips / "a.mp4"), *QUICK, *cap]) == 3
    _expect_one_line(capfd, "error: ", names)
    assert list(clips.iterdir()) == []


def test_one_seed_is_one_clip(clips: Path) -> None:
    files = [clips / "a.mp4", clips / "b.mp4"]
    for file in files:
        assert run(["generate", PROMPT, "-o", str(file), *QUICK]) == 0
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_clip_from_a_picture(clips: Path, tmp_path: Path) -> None:
    files = {name: clips / f"{name}.mp4" for name in ("red", "blue", "none")}
    for name, file in files.items():
        start = []
        if name != "none":
            Image.new("RGB", (90, 60), name).save(tmp_path / f"{name}.jpg")
            start = ["--input-reference", str(tmp_path / f"{name}.jpg")]
        assert run(["generate", PROMPT, "-o", str(file), *QUICK, *start]) == 0
    assert len({file.read_bytes() for file in files.values()}) == 3


def test_unknown_words_are_named_on_stderr(clips: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", "a red zeppelin", "-o", str(clips / "a.mp4"), *QUICK, "--json"]) == 0
    out, err = capfd.readouterr()
    assert err == "warning: the model never saw these words: zeppelin\n"
    json.loads(out)


def test_a_negative_prompt_that_nothing_reads_is_told_on_stderr(
    clips: Path, tiny_configs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    models = tiny_configs / "models.toml"
    models.write_text(models.read_text() + '\nnegative_prompt = "the sea"\n')  # of the defaults
    assert run(["generate", PROMPT, "-o", str(clips / "a.mp4"), *QUICK, "--json"]) == 0
    assert capfd.readouterr().err.startswith("warning: negative_prompt does nothing: ")


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["", "-o", "a.mp4"], "PROMPT"),
        (["a" * 501, "-o", "a.mp4"], "PROMPT"),
        (["-o", "a.mp4"], "PROMPT"),
        ([PROMPT], "-o"),
        ([PROMPT, "-o", "none/a.mp4"], "-o"),
        ([PROMPT, "-o", "."], "-o"),
        ([PROMPT, "-o", "a.gif"], "-o"),
        ([PROMPT, "-o", "a.mp4", "--model", "sora"], "--model"),
        ([PROMPT, "-o", "a.mp4", "--preset", "ultra"], "--preset"),
        ([PROMPT, "-o", "a.mp4", "--preset", ""], "--preset: '' is unknown"),
        ([PROMPT, "-o", "a.mp4", "--model", ""], "--model: '' is unknown"),
        ([PROMPT, "-o", "a.mp4", "--size", "65x64"], "--size"),
        ([PROMPT, "-o", "a.mp4", "--size", "big"], "--size"),
        ([PROMPT, "-o", "a.mp4", "--seconds", "0"], "--seconds"),
        ([PROMPT, "-o", "a.mp4", "--seconds", "-2"], "--seconds"),
        ([PROMPT, "-o", "a.mp4", "--seconds", "1e9"], "--seconds"),
        ([PROMPT, "-o", "a.mp4", "--seconds", "nan"], "--seconds"),
        ([PROMPT, "-o", "a.mp4", "--seconds", "two"], "--seconds"),
        ([PROMPT, "-o", "a.mp4", "--fps", "0"], "--fps"),
        ([PROMPT, "-o", "a.mp4", "--fps", "1.5"], "--fps"),
        ([PROMPT, "-o", "a.mp4", "--seed", "-1"], "--seed"),
        ([PROMPT, "-o", "a.mp4", "--steps", "4"], "--steps"),
        ([PROMPT, "-o", "a.mp4", "--max-cost", "nan"], "--max-cost"),
        ([PROMPT, "-o", "a.mp4", "--max-cost", "-1"], "--max-cost"),
        ([PROMPT, "-o", "a.mp4", "--max-compute", "0"], "--max-compute"),
        ([PROMPT, "-o", "a.mp4", "--on-cap", "panic"], "--on-cap"),
        ([PROMPT, "-o", "a.mp4", "--input-reference", "none.png"], "--input-reference: 'none.png' cannot be read"),
        ([PROMPT, "-o", "a.mp4", "--input-reference", __file__], "--input-reference: must be a whole PNG"),
    ],
)
def test_bad_input_is_one_line_that_names_the_option(
    arguments: list[str],
    names: str,
    clips: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(clips)
    assert run(["generate", *arguments]) == 2
    _expect_one_line(capfd, "error: ", names)
    assert list(clips.iterdir()) == []


def test_a_truncated_checkpoint_is_one_line(
    clips: Path, tiny_copy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = tiny_copy / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert run(["generate", PROMPT, "-o", str(clips / "a.mp4"), *QUICK]) == 2
    _expect_one_line(capfd, "error: ", "transformer/diffusion_pytorch_model.safetensors is truncated")
    assert list(clips.iterdir()) == []


def test_a_missing_checkpoint_file_is_one_line(
    clips: Path, tiny_copy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tiny_copy / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    assert run(["generate", PROMPT, "-o", str(clips / "a.mp4"), *QUICK]) == 2
    _expect_one_line(capfd, "error: ", "vae/diffusion_pytorch_model.safetensors is missing")


def test_weights_that_are_not_as_they_were_shipped_are_one_line(
    clips: Path, tiny_copy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_sums(tiny_copy)
    weights = tiny_copy / "transformer" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert run(["generate", PROMPT, "-o", str(clips / "a.mp4"), *QUICK]) == 2
    _expect_one_line(capfd, "error: ", f"transformer/{weights.name} is damaged: its SHA-256 is not that of SHA256SUMS")
    assert list(clips.iterdir()) == []


def test_a_gpu_that_is_not_there_is_one_line(
    clips: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VIDEOSVC_DEVICE", "cuda:99")
    assert run(["generate", PROMPT, "-o", str(clips / "a.mp4"), *QUICK]) == 2
    _expect_one_line(capfd, "error: ", "VIDEOSVC_DEVICE: there is no cuda:99; there are auto, cpu")


@pytest.mark.skipif(sys.platform == "darwin", reason="its file names are UTF-8")
def test_a_file_name_of_other_bytes_is_shown_as_it_can_be(clips: Path, capfd: pytest.CaptureFixture[str]) -> None:
    clip = clips / "caf\udce9.mp4"
    assert run(["generate", PROMPT, "-o", str(clip), *QUICK]) == 0
    assert clip.stat().st_size > 0
    assert capfd.readouterr().out.startswith(f"{clips}/caf?.mp4: 64x64, 1 s")


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (GenerationError("step 1 of chunk 1: latents are not finite"), "failed: step 1 of chunk 1", 4),
        (OSError(28, "No space left on device"), "failed: [Errno 28] No space left", 4),
        (KeyboardInterrupt(), "interrupted: ", 130),
    ],
)
def test_what_stops_a_run_is_one_line_and_a_code(
    error: BaseException,
    line: str,
    code: int,
    clips: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    whole = Engine.run

    def broken(self: Engine, *arguments: Any) -> Iterator[Event]:
        with closing(whole(self, *arguments)) as events:
            yield next(events)
            raise error

    monkeypatch.setattr(Engine, "run", broken)
    assert run(["generate", PROMPT, "-o", str(clips / "a.mp4"), *QUICK]) == code
    _expect_one_line(capfd, line)
    assert list(clips.iterdir()) == []


@pytest.fixture
def stopped_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Has the cap stop a clip at a chunk, from 0."""

    def stop_at(where: int) -> None:
        def stop(self: Budget, chunk: int) -> None:
            if chunk == where:
                raise ComputeCapExceeded("the cap would be exceeded")

        monkeypatch.setattr(Budget, "require_landing", stop)

    return stop_at


def test_what_a_cap_leaves_of_a_clip_is_kept_named_and_paid(
    clips: Path, stopped_at: Callable[[int], None], capfd: pytest.CaptureFixture[str], tiny_configs: Path
) -> None:
    stopped_at(1)
    clip = clips / "a.mp4"
    words = ["generate", PROMPT, "-o", str(clip), *QUICK, "--seconds", "4", "--max-compute", "1000"]
    assert run([*words, "--json"]) == 3
    out, err = capfd.readouterr()
    assert err.startswith("failed: the cap would be exceeded; the first ") and err.endswith("s of the clip are kept\n")
    assert len(err.splitlines()) == 1
    assert list(clips.iterdir()) == [clip] and clip.read_bytes()[4:8] == b"ftyp"
    answer = json.loads(out)
    assert list(answer) == ["output", "plan", "quote", "receipt"] and answer["output"] == str(clip)
    receipt = answer["receipt"]
    assert 0 < receipt["charged_usd"] <= receipt["quoted_usd"] == answer["quote"]["price_usd"]
    assert receipt["by_stage"]["decode"] > 0 and receipt["levers"] == []
    assert run(["quote", PROMPT, "--preset", "draft", "--seconds", "4", "--json"]) == 0
    again = json.loads(capfd.readouterr().out)["compute_seconds"]
    assert again != answer["quote"]["compute_seconds"], "the pieces that ran taught something"


def test_a_receipt_says_what_a_cap_that_left_nothing_cost(
    clips: Path, stopped_at: Callable[[int], None], capfd: pytest.CaptureFixture[str]
) -> None:
    stopped_at(0)
    clip = clips / "a.mp4"
    assert run(["generate", PROMPT, "-o", str(clip), *QUICK, "--max-compute", "1000"]) == 3
    out, err = capfd.readouterr()
    assert err == "failed: the cap would be exceeded\n" and list(clips.iterdir()) == []
    assert [line.split()[0] for line in out.splitlines()] == ["model", "compute", "price"]
    assert run(["generate", PROMPT, "-o", str(clip), *QUICK, "--max-compute", "1000", "--json"]) == 3
    assert json.loads(capfd.readouterr().out)["output"] is None


def test_a_bug_shows_its_traceback(
    clips: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Engine, "run", lambda *arguments: iter([object()]))
    assert run(["generate", PROMPT, "-o", str(clips / "a.mp4"), *QUICK]) == 4
    assert "Traceback" in capfd.readouterr().err


LONG = ["--preset", "reference", "--seconds", "8", "--size", "128x128"]


def signalled(clips: Path, number: signal.Signals, options: list[str], *before: str) -> tuple[int, str]:
    """Exit code and stderr of a `generate` that got a signal in the midst; `before`: what it is started by."""
    program = [*before, sys.executable, "-c", "from videosvc.cli.entry import main; main()"]
    command = [*program, "generate", PROMPT, "-o", str(clips / "a.mp4"), *options]
    heeded = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # what a nohup around these tests ignores is inherited
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        signal.signal(signal.SIGHUP, heeded)
        try:
            deadline = time.monotonic() + 300
            while not list(clips.iterdir()):  # the temporary file shows that the loop has begun
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.02)
            process.send_signal(number)
            _, err = process.communicate(timeout=300)
        finally:
            process.kill()
    return process.returncode, err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_while_it_runs_leaves_no_file(clips: Path, number: signal.Signals, code: int) -> None:
    returned, err = signalled(clips, number, LONG)
    assert returned == code
    assert "Traceback" not in err and len(err.splitlines()) <= 1
    assert list(clips.iterdir()) == []


def test_goes_on_under_nohup(clips: Path) -> None:
    code, err = signalled(clips, signal.SIGHUP, QUICK, "nohup")
    assert (code, err.replace("nohup: ignoring input\n", "")) == (0, "")
    assert list(clips.iterdir()) == [clips / "a.mp4"]


def _expect_one_line(capfd: pytest.CaptureFixture[str], *parts: str) -> None:
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    for part in parts:
        assert part in err

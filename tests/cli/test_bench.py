"""`videosvc bench` on tiny models. What it measures is no test's business."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from videosvc.bench import rows
from videosvc.bench.rows import COMPARED, LADDER, STOCK
from videosvc.cli.main import run
from videosvc_kernels import int8_product_refusal

LADDER_HERE = tuple(row for row in LADDER if row.name != "compiled")  # which takes a minute, and has tests of its own
NAMES = [STOCK, *(row.name for row in LADDER_HERE)]


@pytest.fixture
def configs(tiny_configs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reference in few steps."""
    monkeypatch.setattr(rows, "LADDER", LADDER_HERE)
    file = tiny_configs / "presets" / "reference.toml"
    file.write_text(file.read_text().replace("steps = 50", "steps = 3"))
    return tiny_configs


def test_table_json_and_picture(configs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    # 128x128: there the stock step pads nothing, and latents are the same.
    words = ["bench", "--rounds", "2", "--size", "128x128", "--seconds", "2"]
    output, plot = tmp_path / "new" / "levers.json", tmp_path / "waterfall.png"
    assert run([*words, "--output", str(output), "--plot", str(plot)]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    table = [line for line in out.splitlines() if line.startswith(tuple(NAMES))]
    assert [line.strip() for line in out.splitlines() if line.strip().startswith("probe")] == [
        "probe: left out: it cannot read the pictures of model 'toyworld'"
    ]
    assert [next(name for name in NAMES if line.startswith(name)) for line in table] == NAMES
    assert "float32 product" in out and str(output) in out and str(plot) in out
    with Image.open(plot) as picture:
        assert picture.width == 900 and len(picture.convert("RGB").getcolors(10**6) or []) > 20

    content = json.loads(output.read_text())
    assert content["machine"]["device"] == "cpu" and content["machine"]["torch"] and len(content["model"]["hash"]) > 8
    assert (content["rounds"], content["size"], content["frames"]) == (2, "128x128", 16)
    assert content["stock"]["steps"] == 3 and content["stock"]["guidance_scale"] > 1
    lines = {row["name"]: row for row in content["rows"]}
    assert list(lines) == NAMES
    assert not any(row["refused"] for row in lines.values())
    assert lines[STOCK]["cheaper_than_stock"] is lines[STOCK]["gain_of_this_lever"] is None
    for above, here in zip(content["rows"], content["rows"][1:], strict=False):
        ours, before = (row["compute_seconds_per_second"]["p50"] for row in (here, above))
        assert ours > 0 and here["gain_of_this_lever"]["p50"] > 0
        assert here["cheaper_than_stock"]["p20"] <= here["cheaper_than_stock"]["p80"]
        assert float(here["price_per_second_usd"]) / ours == pytest.approx(
            float(above["price_per_second_usd"]) / before, rel=1e-2
        )
    assert [name for name, row in lines.items() if row["latents_apart"]] == NAMES[NAMES.index(COMPARED) + 1 :]
    assert 0 < lines["int8 weights"]["latents_apart"]["p50"] < 0.1
    assert lines["int8 frame cache"]["frame_cache_bytes"] < lines["int8 weights"]["frame_cache_bytes"] / 2
    # 2 s and 8 s of a clip: all at once, and chunk by chunk.
    assert content["decode_seconds"] == [2, 8]
    for name, grows in ((STOCK, 4.0), (COMPARED, 4.0), ("streamed decode", 1.0)):
        short, long = lines[name]["decode_peak_bytes"]
        assert long / short == pytest.approx(grows, rel=0.1)
    for share in ("share_of_product_rate", "share_of_rate_in_sequence"):
        assert all(lines[name][share]["p50"] > 0 for name in (COMPARED, "int8 weights"))
    measures = {measure["name"]: measure for measure in content["measures"]}
    assert len(measures["our engine: times cheaper than stock"]["samples"]) == 2
    assert measures["float32 product, 128x48x64"]["p50"] > 0
    multiplied = int8_product_refusal(torch.device("cpu")) is None
    assert ("int8 product, 128x48x64" in measures) is multiplied
    assert measures["products of a step, native"]["p50"] > 0 and measures["products of a step, int8"]["p50"] > 0


def test_levers_that_cannot_be_are_shown_with_the_reason(
    configs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from videosvc.families import block_levers

    monkeypatch.setattr(block_levers, "int8_refusal", lambda device: "cpu has no int8 matrix product")
    models = configs / "models.toml"
    models.write_text(models.read_text().replace("guidance_scale = 1.0", "guidance_scale = 2.0"))
    assert run(["bench", "--rounds", "1", "--seconds", "0.5", "--json"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    content = json.loads(out)
    lines = {row["name"]: row for row in content["rows"]}
    assert lines[STOCK]["refused"] == "it makes no clip of fewer than 2 chunks, and this one has 1"
    assert lines["guidance folded in"]["refused"] == "guidance is not folded into the weights of toyworld"
    assert lines["int8 weights"]["refused"].endswith("cpu has no int8 matrix product")
    assert lines["int8 weights"]["compute_seconds_per_second"] is None
    assert content["stock"]["guidance_scale"] == 2
    # What follows goes on without the lever.
    below = lines["int8 frame cache"]
    assert below["refused"] is None and below["levers"]["weights"] == "native" and below["gain_of_this_lever"]
    assert below["levers"]["guidance_scale"] == 2


def test_the_table_names_what_cannot_be(
    configs: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from videosvc.bench import waterfall

    def no_memory(*arguments: Any) -> None:
        raise RuntimeError("out of memory\nand more")

    monkeypatch.setattr(waterfall, "make_stock", no_memory)
    words = ["bench", "--rounds", "1", "--seconds", "0.5", "--plot", str(tmp_path / "a.png")]
    assert run(words) == 0
    out = capfd.readouterr().out
    assert f"{STOCK}: cannot be here: out of memory\n" in out and "and more" not in out
    assert (tmp_path / "a.png").is_file()


def test_a_stock_pipeline_that_cannot_be_loaded_is_a_row_with_the_reason(
    configs: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*arguments: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory\nand more")

    monkeypatch.setattr("diffusers.AnyFlowFARPipeline.to", no_memory)
    assert run(["bench", "--rounds", "1", "--seconds", "2", "--json"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    stock, ours, *_ = json.loads(out)["rows"]
    assert stock["name"] == STOCK and stock["refused"] == "it cannot be loaded: CUDA out of memory"
    assert ours["compute_seconds_per_second"] and ours["cheaper_than_stock"] is None


def test_a_model_without_a_stock_pipeline_is_refused(configs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    models = configs / "models.toml"
    film = '\n[[models]]\nname = "film"\npath = "film"\nfamily = "wan"\nsizes = ["64x64"]\n'
    models.write_text(models.read_text() + film)
    assert run(["bench", "--model", "film"]) == 2
    says = "error: --model: 'film' is of family wan; the stock pipeline runs models of family anyflow_far only\n"
    assert capfd.readouterr().err == says


@pytest.fixture
def bundled_configs(configs: Path) -> Path:
    """The bundled model again, and a reference of few steps."""
    from videosvc.config.settings import CHECKOUT_CONFIGS

    (configs / "models.toml").write_text((CHECKOUT_CONFIGS / "models.toml").read_text())
    return configs


def test_the_probe_reads_the_bundled_model(bundled_configs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "--rounds", "1", "--clips", "2", "--seconds", "2", "--json"]) == 0
    content = json.loads(capfd.readouterr().out)
    assert content["rounds"] == 2 and content["probe"] == "2 clips of each row"
    for row in content["rows"]:
        assert row["refused"] is None
        assert row["probe_clips"] == 2 and row["probe_all_four"] in (0, 0.5, 1) and 0 < row["probe_error"] < 1


def test_where_the_probe_is_not(
    bundled_configs: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "training"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "training", None)  # as in a wheel
    assert run(["bench", "--rounds", "1", "--seconds", "0.5"]) == 0
    out = capfd.readouterr().out
    assert "probe: left out: it is only in a source checkout" in out and "probe (" not in out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--model", "sora"], "--model: 'sora' is unknown"),
        (["--rounds", "0"], "--rounds: 0 must be from 1 to 10000"),
        (["--clips", "-1"], "--clips: -1 must be from 0 to 10000"),
        (["--size", "60x60"], "--size: 60x60: model 'toyworld': width and height must be multiples of 16"),
        (["--seconds", "nan"], "--seconds: nan must be at least 0.125"),
        (["--output", "levers.txt"], "-o: 'levers.txt' must end in .json"),
        (["-o", "/dev/null/x.json"], "-o: '/dev/null' is not a folder"),
        (["--plot", "picture.jpg"], "--plot: 'picture.jpg' must end in .png"),
        (["--plot", "/dev/null/x.png"], "--plot: '/dev/null' is not a folder"),
    ],
)
def test_bad_input_is_one_line(
    options: list[str], says: str, configs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", *options]) == 2
    err = capfd.readouterr().err
    assert says in err and len(err.splitlines()) == 1


def test_no_picture_without_matplotlib(
    configs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith(("matplotlib", "videosvc.bench.plot"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run(["bench", "--plot", str(tmp_path / "a.png")]) == 2
    assert capfd.readouterr().err == "error: --plot: needs matplotlib: pip install 'videosvc[plot]'\n"


def test_ctrl_c_leaves_no_file(configs: Path, tmp_path: Path) -> None:
    """Interrupted once the rounds have begun, of which there are more than anybody waits for."""
    script = (
        "import sys; from videosvc.bench import rows, waterfall; from videosvc.cli.main import run\n"
        "rows.LADDER, real = rows.LADDER[:5], waterfall.add_round\n"
        "def told(*words):\n    real(*words); print('a round', flush=True)\n"
        "waterfall.add_round = told; sys.exit(run(sys.argv[1:]))"
    )
    output = tmp_path / "out" / "a.json"
    words = ["bench", "--rounds", "10000", "--seconds", "0.5", "--output", str(output)]
    process = subprocess.Popen(
        [sys.executable, "-c", script, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "a round\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130 and err == "interrupted: nothing was written\n"
    assert not output.parent.exists()

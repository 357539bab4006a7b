"""`videosvc bench`: what every lever gains on this device, against diffusers' own pipeline in the same run."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from videosvc.cli.progress import progress_bar
from videosvc.cli.request_options import Json, Seconds, Size
from videosvc.config.models import FamilyName, ModelEntry, load_model
from videosvc.config.presets import load_preset
from videosvc.config.request import Request, resolve_plan
from videosvc.config.settings import config_dir, load_settings
from videosvc.engine.loading import device_name
from videosvc.errors import UserError
from videosvc.pricing.planner import Planner
from videosvc.pricing.prompts import GENERAL
from videosvc.pricing.savings import REFERENCE
from videosvc.pricing.scores import PROBED, has_probe

if TYPE_CHECKING:
    from videosvc.bench.line import Line
    from videosvc.bench.waterfall import Waterfall
    from videosvc.families.base import Family
    from videosvc.pricing.scores import Judge

SEED = 20_000  # of the probe's scenes, and of the first round
MOST = 10_000  # rounds, clips
STOCK_FAMILY: FamilyName = "anyflow_far"  # that `bench.stock` has a pipeline for
KIB, MIB = 2**10, 2**20


def bench(
    model: Annotated[str | None, typer.Option(help="A model of `videosvc models list`.")] = None,
    rounds: Annotated[int, typer.Option(help="Clips that every row makes, at least.")] = 8,
    clips: Annotated[
        int | None, typer.Option(help="Of each row, for the probe to read; as many as there are rounds if not given.")
    ] = None,
    size: Size = None,
    seconds: Seconds = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE.json", help="What to write.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="A picture of it.")] = None,
    json_output: Json = False,
) -> None:
    """Measure each lever, one on top of the other, against stock diffusers. Run it when nothing else does."""
    folder = config_dir()
    settings = load_settings(folder)
    entry = load_model(folder, model or settings.model)
    if entry.family != STOCK_FAMILY:
        reason = f"is of family {entry.family}; the stock pipeline runs models of family {STOCK_FAMILY} only"
        raise UserError(f"model: {entry.name!r} {reason}", param="model")
    scored = rounds if clips is None else clips
    for field, count, least in (("rounds", rounds, 1), ("clips", scored, 0)):
        if not least <= count <= MOST:
            raise UserError(f"{field}: {count} must be from {least} to {MOST}", param=field)
    asked = Request(GENERAL[0], None, entry.name, None, seconds, size or entry.sizes[0], seed=SEED)
    resolved = resolve_plan(asked, folder, settings)
    rate = Planner(folder, settings, device_name(settings.device)).rate(resolved.preset, "interactive")
    many = load_preset(folder, REFERENCE).quality.steps
    _check_files(output, plot)

    from videosvc.bench.engines import Engines  # here, as they load torch
    from videosvc.bench.machine import describe
    from videosvc.bench.rows import GUIDANCE, LADDER
    from videosvc.bench.waterfall import Bench

    engines = Engines(entry, settings.device, settings.data_dir / "quantized")
    family = engines.plain.family
    machine = describe(str(family.device))  # before any of our work is part of its load
    base = replace(
        resolved.plan,
        steps=many,
        sampler="flow_map",  # its jumps are the stock scheduler's
        guidance_scale=entry.defaults.guidance_scale if entry.defaults.guidance_scale > 1.0 else GUIDANCE,
        weights="native",
        frame_cache="native",
        decode="full",
        draft_threshold=None,
        later_steps=None,
        compile=False,
    )
    unread = _unread(entry)
    judges, prompts = _judged(family, 0 if unread else scored, max(rounds, scored))
    with progress_bar() as bar:
        task = bar.add_task(_counted(len(prompts), "round"), total=1.0)
        runner = Bench(engines, base, prompts, judges, rate, SEED, LADDER)
        found = runner.run(partial(_show, bar, task))

    about = {
        "bench": "levers",
        "machine": machine,
        "model": {"name": entry.name, "hash": family.model_hash},
        "size": base.size,
        "seconds": base.clip_seconds,
        "frames": base.frames,
        "stock": {"steps": many, "guidance_scale": base.guidance_scale, "dtype": "float32", "decode": "full"},
        "seed": SEED,  # of the scenes; round n starts from seed SEED + n
        "rounds": len(prompts),
        "probe": unread or f"{len(judges)} clips of each row",
        "rate": rate.fields(),
        "decode_seconds": found.decode_seconds,
        "step_operations": found.operations,
        "rows": [line.as_dict() for line in found.lines],
        "measures": [measure.as_dict() for measure in found.measures()],
    }
    device = (
        f"{machine['cpu']}, {_counted(machine['threads'], 'thread')}"
        if machine["device"] == "cpu"
        else machine["device"]
    )
    medians = f"medians of {_counted(len(prompts), 'round')}"
    title = f"{entry.name}, {base.clip_seconds:g} s at {base.size} on {device}; {medians}"
    _write(about, found, title, output, plot)
    if json_output:
        typer.echo(json.dumps(about))
        return
    _print(found, title, many, base.guidance_scale, unread)
    for path in (output, plot):
        if path is not None:
            typer.echo(f"{path}")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _check_files(output: Path | None, plot: Path | None) -> None:
    from videosvc.bench.files import check_file

    if output is not None:
        check_file("output", output, ".json")
    if plot is not None:
        check_file("plot", plot, ".png")
        if find_spec("matplotlib") is None:
            raise UserError("plot: needs matplotlib: pip install 'videosvc[plot]'", param="plot")


def _unread(entry: ModelEntry) -> str | None:
    """Why the probe does not read this model's clips."""
    if entry.path != PROBED:
        return f"left out: it cannot read the pictures of model {entry.name!r}"
    return None if has_probe() else "left out: it is only in a source checkout"


def _judged(family: Family, clips: int, rounds: int) -> tuple[list[Judge], list[str]]:
    """What reads each of the first `clips` clips, and a prompt for every round."""
    if clips:
        from videosvc.pricing.probe_score import ProbeScore, held_out_captions

        scenes, captions = held_out_captions(rounds, SEED)
        score = ProbeScore(scenes)
        return [score.judge(number, captions[number], {}) for number in range(clips)], list(captions)
    readable = [text for text in GENERAL if _fits(family, text)]
    return [], list(islice(cycle(readable or [""]), rounds))


def _fits(family: Family, text: str) -> bool:
    try:
        family.encode_text(text, None)
    except UserError:  # longer than this model reads
        return False
    return True


def _show(bar: Progress, task: TaskID, share: float) -> None:
    bar.update(task, completed=share)


def _write(about: dict[str, Any], found: Waterfall, title: str, output: Path | None, plot: Path | None) -> None:
    from videosvc.bench.files import write_file

    if plot is not None:
        from videosvc.bench.plot import plot_png

        write_file(plot, plot_png(found.lines, title))
    if output is not None:
        write_file(output, (json.dumps(about, indent=2) + "\n").encode())


def _print(found: Waterfall, title: str, steps: int, guidance: float, unread: str | None) -> None:
    from videosvc.bench.rows import COMPARED

    lengths = " / ".join(f"{seconds:g} s" for seconds in found.decode_seconds)
    probe = [] if unread else [f"probe ({len(found.lines[0].right)})"]
    table = Table("", box=None, pad_edge=False, title=title)
    headings = ("s/s", "p20-p80", "cheaper", "alone", "apart", *probe, "USD/s", f"decode MiB {lengths}", "cache KiB")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for line in found.lines:
        table.add_row(line.name, *(["-"] if line.refused else _cells(line, not unread)))
    console = Console(width=max(130, Console().width))  # a narrow terminal folds lines; cut ones would tell nothing
    console.print(table)
    for line in found.lines:
        if line.refused:
            typer.echo(f"{line.name}: cannot be here: {line.refused}")
    typer.echo(
        f"Each row pulls its lever on top of those above, or in place of one. Stock: float32, {steps} steps, "
        f"guidance {guidance:g}, decoded at once. alone: against the row above; apart: latents, rms, from those of "
        f"{COMPARED!r}."
    )
    if unread:
        typer.echo(f"probe: {unread}")
    typer.echo(_step_line(found))


def _cells(line: Line, probed: bool) -> list[str]:
    from videosvc.bench.measure import Measure

    low, middle, high = Measure("", "", tuple(line.compute_s)).percentiles
    cells = [f"{middle:.3g}", f"{low:.3g}-{high:.3g}"]
    cells += [f"{median(line.cheaper):.1f}x" if line.cheaper else "", f"{median(line.gain):.2f}x" if line.gain else ""]
    cells.append(f"{median(line.apart):.4f}" if line.apart else "")
    if probed:
        cells.append(f"{line.quality:.0%} ±{line.quality_error:.0%}" if line.quality is not None else "")
    cells.append(f"{line.price_usd:.2g}")
    cells.append(" / ".join("-" if peak is None else f"{peak / MIB:.1f}" for peak in line.decode_bytes))
    cells.append("" if line.cache_bytes is None else f"{line.cache_bytes / KIB:.0f}")
    return cells


def _step_line(found: Waterfall) -> str:
    """How near the denoising step comes to the matrix products that it is made of."""
    size = "x".join(map(str, found.product))
    rates, sequences = (
        ", ".join(f"{name} {median(taken):.3g}" for name, taken in by_name.items())
        for by_name in (found.rates, found.sequences)
    )
    shares = ", ".join(
        f"{line.name} {median(line.sequence_share):.0%} ({median(line.share):.0%})"
        for line in found.lines
        if line.sequence_share
    )
    return (
        f"Gop/s: all products of a step in sequence, by weights: {sequences}; one of {size} alone, its weights in the "
        f"cache: {rates}. Share of its products' rate in sequence (of that one's alone) that a step reaches: {shares}."
    )

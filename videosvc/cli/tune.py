"""`videosvc tune`: what each setting costs on this device and how good its clips are, as files that quotes read."""

from __future__ import annotations

import json
import reprlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from videosvc.cli.progress import progress_bar
from videosvc.cli.request_options import Json, OneModel, Seconds
from videosvc.config.models import ModelEntry, load_model
from videosvc.config.presets import load_preset
from videosvc.config.quality import QualityTable
from videosvc.config.request import Request, Resolved, resolve_plan
from videosvc.config.settings import Settings, config_dir, load_settings
from videosvc.engine.loading import device_name, open_engine
from videosvc.errors import ConfigError, ModelError, UserError
from videosvc.families.load_levers import NO_LEVERS, LoadLevers
from videosvc.pricing.frontier_file import findings_of, narrowed, quality_table, read_table, sweep_of
from videosvc.pricing.options import frontier
from videosvc.pricing.output_folder import check_folder, write_files
from videosvc.pricing.planner import Planner
from videosvc.pricing.preset_file import check_preset_name, preset_toml, tuned_preset
from videosvc.pricing.prompts import GENERAL, read_prompts
from videosvc.pricing.rate import Rate
from videosvc.pricing.savings import REFERENCE
from videosvc.pricing.scores import PROBED, ScoreName, choose_score, has_probe
from videosvc.pricing.setting import Grid, check_base
from videosvc.pricing.shape import read_shape
from videosvc.pricing.target import Target

if TYPE_CHECKING:
    import torch

    from videosvc.engine.generate import Engine
    from videosvc.pricing.finding import Finding, Findings
    from videosvc.pricing.scores import Score

QUALITY, PLOT = "quality.json", "frontier.png"
MOST_CLIPS = 10_000
MOST_DESCRIPTION = 200  # characters, as in a preset
MEASURING = ("prompts", "clips", "seconds", "seed", "score", "clip_model")  # options that say how


def tune(
    context: typer.Context,
    model: OneModel = None,
    preset: Annotated[str | None, typer.Option(help="The preset to begin from.")] = None,
    sizes: Annotated[str | None, typer.Option(metavar="WxH,...", help="All that the model lists.")] = None,
    steps: Annotated[str | None, typer.Option(metavar="N,...", help="1,2,4,8 if not given.")] = None,
    weights: Annotated[str | None, typer.Option(metavar="LEVER,...", help="All that this device can.")] = None,
    frame_caches: Annotated[str | None, typer.Option(metavar="LEVER,...", help="All that the model can.")] = None,
    samplers: Annotated[str | None, typer.Option(metavar="NAME,...", help="The preset's if not given.")] = None,
    later_steps: Annotated[
        str | None, typer.Option(metavar="N,...", help="Of chunks after the first; all: as many as the first has.")
    ] = None,
    fps: Annotated[
        str | None, typer.Option(metavar="N,...", help="Frames per second; the preset's, for every rate, if not given.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="TABLE",
            help="Measure nothing: choose from this table's points, or those of them named by the lists above.",
        ),
    ] = None,
    prompts: Annotated[Path | None, typer.Option(metavar="FILE", help="A prompt a line, in UTF-8.")] = None,
    clips: Annotated[int, typer.Option(help="Clips of each setting; prompts begin anew if there are fewer.")] = 12,
    seconds: Seconds = None,
    seed: Annotated[int, typer.Option(help="Of the first clip; the next one's is one more.")] = 0,
    score: Annotated[
        str | None,
        typer.Option(metavar="probe|reference|clip", help="How quality is judged; the best there is if not given."),
    ] = None,
    clip_model: Annotated[Path | None, typer.Option(metavar="FOLDER", help="A CLIP model, for score clip.")] = None,
    at_least: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="The cheapest of this share of the quality of --of; 0.98."),
    ] = None,
    of: Annotated[
        str,
        typer.Option(metavar="reference|best", help="Whose quality: the reference's, or the best there is."),
    ] = "reference",
    under: Annotated[float | None, typer.Option(metavar="USD", help="The best below this price a second.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to write.")] = Path("tune"),
    name: Annotated[str, typer.Option(help="The preset to write.")] = "tuned",
    description: Annotated[str | None, typer.Option(help="Its own; the target if not given.")] = None,
    json_output: Json = False,
) -> None:
    """Measure what settings cost here and how good they are; write the frontier and a preset."""
    folder = config_dir()
    settings = load_settings(folder)
    target = Target.parse(at_least, under, of)
    check_preset_name(name)
    check_folder(output)
    lists = {"sizes": sizes, "fps": fps, "steps": steps, "samplers": samplers, "weights": weights}
    lists |= {"frame_caches": frame_caches, "later_steps": later_steps}
    if source is not None:
        _measures_nothing(context)
        begins_with = load_preset(folder, preset or settings.preset)
        check_base(begins_with)
        table, sweep = read_table(source)
        entry = _model_of(table, source, model, folder)
        found = findings_of(table, sweep, begins_with.quality.fps)
        offers = narrowed(found, lists)
        files = {}
    else:
        texts = None if prompts is None else read_prompts(prompts)
        base = _resolve(Request(GENERAL[0], None, model, preset, seconds, seed=seed), texts or (), folder, settings)
        begins_with, entry = base.preset, base.entry
        grid = Grid.parse(entry, begins_with, **lists, bf16_is_native=device_name(settings.device) != "cpu")
        references = grid.references(load_preset(folder, REFERENCE), entry)
        scored_by = choose_score(score, entry, prompts, clip_model)
        if not 1 <= clips <= MOST_CLIPS:
            raise UserError(f"clips: {clips} must be from 1 to {MOST_CLIPS}", param="clips")
        rate = _rate(base, folder, settings)

        from videosvc.pricing.tune import Tuner  # here, as it loads torch

        engines = _open_engines(entry, grid.weights, settings, base.plan.compile)
        family = engines[NO_LEVERS].family
        judged_by, shown = _score(scored_by, entry, texts, clips, seed, clip_model, family.device)
        for text in dict.fromkeys(shown):
            with _blaming(text):
                family.encode_text(text, None)
        pulled = {setting: setting.plan(base.plan, GENERAL[0], seed).loading for setting in grid.settings()}
        swept = [setting for setting, levers in pulled.items() if levers in engines]
        if not swept:
            raise UserError(f"weights: this device can take none of {', '.join(grid.weights)}", param="weights")
        tuner = Tuner(engines, base.plan, judged_by, rate, seed)
        with progress_bar() as bar:
            task = bar.add_task(f"{len(swept)} settings x {clips} clips", total=1.0)
            found = tuner.run(swept, references, shown, partial(_show, bar, task))
        offers = found.swept
        sweep = sweep_of(tuner, found, clips)
        table = quality_table(entry.name, sweep, found, rates_measured=fps is not None)
        source = output / QUALITY
        files = {QUALITY: (table.model_dump_json(indent=1, exclude_none=True) + "\n").encode()}

    title = f"{entry.name} on {sweep.device}: {sweep.clips} clips of {sweep.seconds:g} s for each setting"
    try:
        chosen = target.choose(offers, found.references[-1])
    except UserError as error:
        if files:
            write_files(output, files | _plot(found, None, name, title, sweep.score))
        raise UserError(f"{error.message}; see {source}", param=error.param) from error
    about = f"{target}: quality {chosen.quality:.3f}, {chosen.price_usd:.3g} USD a second on {sweep.device}"
    about = f"{chosen.setting}; {description or about}"
    made = tuned_preset(name, about[:MOST_DESCRIPTION], begins_with, chosen, entry.defaults.seconds)
    files |= _plot(found, chosen, name, title, sweep.score)
    files[f"{name}.toml"] = preset_toml(made).encode()
    write_files(output, files)

    best = frontier(offers)
    if json_output:
        answer = {
            "model": entry.name,
            "sweep": sweep.model_dump(mode="json"),
            "frontier": [_as_dict(finding) for finding in best],
            "reference": _as_dict(found.references[-1]),
            "target": str(target),
            "chosen": _as_dict(chosen),
            "preset": name,
            "files": [str(output / file) for file in files],
        }
        typer.echo(json.dumps(answer))
    else:
        _print(found, best, chosen, title, sweep.score)
        typer.echo(f"preset {name} ({target}): {chosen.setting}")
        typer.echo(f"{output}: {', '.join(files)}")


def _measures_nothing(context: typer.Context) -> None:
    """Raises UserError naming an option that was given and says how to measure."""
    for option in MEASURING:
        origin = context.get_parameter_source(option)
        if origin is not None and origin.name == "COMMANDLINE":
            raise UserError(f"{option}: goes not together with --from, which measures nothing", param=option)


def _model_of(table: QualityTable, path: Path, asked: str | None, folder: Path) -> ModelEntry:
    """Nothing but a line on stderr where it has other weights now. Raises UserError (model), ModelError."""
    if asked not in (None, table.model):
        raise UserError(f"model: {path} is of model {table.model!r}", param="model")
    entry = load_model(folder, table.model)
    if table.is_of_other_weights(read_shape(entry).model_hash):
        print(f"note: {path} was measured on other weights of model {entry.name!r}", file=sys.stderr)
    return entry


def _resolve(request: Request, texts: Sequence[str], folder: Path, settings: Settings) -> Resolved:
    """What is not swept; every one of `texts` is checked as a prompt."""
    resolved = resolve_plan(request, folder, settings)
    for text in dict.fromkeys(texts):
        with _blaming(text):
            resolve_plan(replace(request, prompt=text), folder, settings)
    return resolved


@contextmanager
def _blaming(text: str) -> Iterator[None]:
    """The prompt at fault is one of many."""
    try:
        yield
    except UserError as error:
        if error.param != "prompt":
            raise
        says = error.message.removeprefix("prompt: ")
        raise UserError(f"prompts: {reprlib.repr(text)}: {says}", param="prompts") from error


def _rate(base: Resolved, folder: Path, settings: Settings) -> Rate:
    """Raises ConfigError if a second of the device costs nothing: every setting would then cost the same."""
    rate = Planner(folder, settings, device_name(settings.device)).rate(base.preset, "interactive")
    if not rate.price(1.0):
        message = f"{folder / 'devices.toml'}: {rate.device!r} costs nothing; a frontier of costs needs its price"
        raise ConfigError(message, param="devices")
    return rate


def _open_engines(
    entry: ModelEntry, weights: Sequence[str], settings: Settings, compiled: bool
) -> dict[LoadLevers, Engine]:
    """One for each kind of weights that this device can take, and the reference's, which has no lever pulled."""
    engines = {}
    for levers in dict.fromkeys((NO_LEVERS, *(LoadLevers(lever, compiled) for lever in weights))):
        try:
            engines[levers] = open_engine(entry, settings.device, levers, settings.data_dir / "quantized")
        except ModelError as error:
            if error.param != "levers":
                raise
            print(f"note: left out: {error.message}", file=sys.stderr)
    return engines


def _score(
    name: ScoreName,
    entry: ModelEntry,
    texts: Sequence[str] | None,
    clips: int,
    seed: int,
    clip_model: Path | None,
    device: torch.device,
) -> tuple[Score, list[str]]:
    """The judge, and a prompt for each clip."""
    from videosvc.pricing.clip_score import ClipScore
    from videosvc.pricing.probe_score import ProbeScore, held_out_captions
    from videosvc.pricing.reference_score import ReferenceScore

    if texts is None and entry.path == PROBED and has_probe():
        scenes, texts = held_out_captions(clips, seed)
        if name == "probe":
            return ProbeScore(scenes), list(texts)
    score = ReferenceScore() if clip_model is None else ClipScore(clip_model, device)
    return score, list(islice(cycle(texts or GENERAL), clips))


def _show(bar: Progress, task: TaskID, share: float) -> None:
    bar.update(task, completed=share)


def _plot(found: Findings, chosen: Finding | None, name: str, title: str, score: str) -> dict[str, bytes]:
    """Nothing but a line on stderr where matplotlib is missing."""
    try:
        from videosvc.pricing.frontier_plot import plot_png
    except ImportError:
        print(f"note: no {PLOT} without matplotlib: pip install 'videosvc[plot]'", file=sys.stderr)
        return {}
    return {PLOT: plot_png(found, chosen, name, title, score)}


def _as_dict(finding: Finding) -> dict[str, Any]:
    return finding.point(rate_measured=True, frontier=True).model_dump(mode="json", exclude={"frontier"})


def _print(found: Findings, best: Sequence[Finding], chosen: Finding, title: str, score: str) -> None:
    table = Table("size", "fps", "steps", "sampler", "weights", "cache", box=None, pad_edge=False, title=title)
    for heading in (score, "s/s", "USD/s", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for finding in dict.fromkeys((*best, found.references[-1])):
        setting = finding.setting
        error = "" if finding.error is None else f" ±{finding.error:.3f}"
        role = "chosen" if finding is chosen else "" if finding in best else "reference"
        table.add_row(
            str(setting.size), str(setting.fps), setting.steps_told, setting.sampler, setting.weights,
            setting.frame_cache, f"{finding.quality:.3f}{error}", f"{finding.compute_s[1]:.3g}",
            f"{finding.price_usd:.3g}", role,
        )  # fmt: skip
    Console(width=max(100, Console().width)).print(table)  # a narrow terminal folds lines; cut ones would tell nothing

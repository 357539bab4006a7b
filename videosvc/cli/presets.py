"""`videosvc presets`: what presets there are, and whether a file is a good one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from videosvc.cli.device_levers import model_refused_here, remark_here
from videosvc.cli.tables import print_table
from videosvc.config.models import load_models
from videosvc.config.presets import load_preset, load_preset_file, load_presets, preset_files
from videosvc.config.settings import config_dir
from videosvc.errors import PresetError, UnknownPreset, UserError
from videosvc.families.load_levers import LoadLevers

app = typer.Typer(help="Presets: list, show, check a file.")


@app.command("list")
def list_presets() -> None:
    """List the presets."""
    table = Table("name", "size", "fps", "steps", "sampler", "description", box=None, pad_edge=False)
    for preset in load_presets(config_dir()).values():
        asked = preset.quality
        about = preset.preset.description
        table.add_row(preset.name, asked.size, str(asked.fps), str(asked.steps), asked.sampler, about)
    print_table(table)


@app.command()
def show(name: Annotated[str, typer.Argument(help="A preset's name.")]) -> None:
    """Print a preset's file."""
    folder = config_dir()
    try:
        load_preset(folder, name)
    except UnknownPreset as error:  # which names a request's option, or the variable behind it
        raise UserError(f"NAME{error.message.removeprefix('preset')}") from error
    typer.echo(preset_files(folder)[name].read_text(encoding="utf-8"), nl=False)


@app.command()
def check(file: Annotated[Path, typer.Argument(help="A preset's TOML file.")]) -> None:
    """Check a preset's file, and that some model here can run it."""
    preset = load_preset_file(file)
    models = load_models(config_dir()).values()
    levers = preset.levers
    loading = LoadLevers(levers.weights, levers.compile)
    refusals = [
        (
            entry.family,
            preset.refusals_of(entry) or [*filter(None, [model_refused_here(entry, loading, levers.frame_cache)])],
        )
        for entry in models
    ]
    if all(lines for _, lines in refusals):
        raise PresetError(f"preset {file}: {refusals[0][1][0]}", param="levers")
    able = sorted({family for family, lines in refusals if not lines})
    typer.echo(f"{file}: ok, for family {', '.join(able)}")
    pulled = {"weights": levers.weights, "frame_cache": levers.frame_cache, "compile": str(levers.compile).lower()}
    for lever, value in pulled.items():
        if remark := remark_here(able[0], lever, value):
            typer.echo(f"lever {lever}={value!r} {remark}")
    for family in able:
        for what in preset.idle_trades(family):
            typer.echo(f"trade: {what!r} is passed by for family {family}, where it does nothing")

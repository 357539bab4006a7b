"""`videosvc models`: what models there are, and what a checkpoint can do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from videosvc.cli.attention import attention_of
from videosvc.cli.checkpoint import Checkpoint, inspect_entry, inspect_folder
from videosvc.cli.device_levers import cache_refused_here, loading_here, refused_here, remark_here
from videosvc.cli.tables import print_table
from videosvc.config.levers import LEVERS, refusal, step_cache_refusal
from videosvc.config.models import idle_settings, load_model, load_models
from videosvc.config.settings import config_dir, load_settings
from videosvc.errors import UnknownModel, UserError
from videosvc.families.checks import tiny_decoder_refusal
from videosvc.families.load_levers import LoadLevers

app = typer.Typer(help="Models: list, check a checkpoint.")


@app.command("list")
def list_models() -> None:
    """List the models."""
    settings = load_settings(config_dir())
    table = Table("name", "family", "sizes", "fps", "max seconds", box=None, pad_edge=False)
    table.add_column("attention", no_wrap=True)
    table.add_column("path", overflow="fold")
    for entry in load_models(config_dir()).values():
        numbers = (f"{entry.fps}", f"{entry.max_seconds:g}")
        attention = attention_of(entry, settings)
        table.add_row(entry.name, entry.family, " ".join(entry.sizes), *numbers, attention, entry.path)
    print_table(table)


@app.command()
def check(
    target: Annotated[str, typer.Argument(metavar="PATH_OR_NAME", help="A folder, or a model's name.")],
) -> None:
    """Check that a checkpoint is whole, and say which levers it can take."""
    folder = config_dir()
    mag_ratios: Sequence[float] = ()
    if target not in load_models(folder) and Path(target).is_dir():
        found = inspect_folder(Path(target).resolve().name, Path(target))
    else:
        try:
            entry = load_model(folder, target)
        except UnknownModel as error:  # which names a request's option, or the variable behind it
            raise UserError(f"PATH_OR_NAME{error.message.removeprefix('model')}, and no such folder") from error
        found, mag_ratios = inspect_entry(entry), entry.mag_ratios
    typer.echo(f"{found.name}: {found.folder} is whole")
    typer.echo(f"family {found.family}: {found.transformer} and {found.vae}")
    typer.echo(f"weights: {found.weight_bytes / 1e6:.1f} MB, hash {found.model_hash[:12]}")
    for lever, values in LEVERS.items():
        for value in values:
            line = refusal(found.family, lever, value) or _refusal_here(found, lever, value, mag_ratios)
            if line is None:
                line = f"lever {lever}={value!r} is supported"
                if remark := remark_here(found.family, lever, value):
                    line += f": {remark}"
            typer.echo(line)
    for setting, problem in loading_here(found.family, found.vae).items():
        typer.echo(f"{setting} in models.toml is supported" if problem is None else problem)
    for line in idle_settings(found.family).values():
        typer.echo(line)


def _refusal_here(found: Checkpoint, lever: str, value: str, mag_ratios: Sequence[float]) -> str | None:
    """Why this checkpoint or this device cannot, though the family can."""
    if (lever, value) == ("decode", "tiny"):
        return tiny_decoder_refusal(found.name, found.folder)
    if lever == "step_cache":
        return step_cache_refusal(value, mag_ratios, compiled=False)
    if lever == "weights":
        return refused_here(found.name, found.family, LoadLevers(weights=value))
    if lever == "frame_cache" and found.family == "anyflow_far":
        return cache_refused_here(found.name, found.folder, value)
    if lever == "compile":
        return refused_here(found.name, found.family, LoadLevers(compile=value == "true"))
    return None

"""`videosvc models`: what models there are, and what a checkpoint can do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from videosvc.cli.checkpoint import inspect_entry, inspect_folder
from videosvc.cli.storage_only import storage_only_here
from videosvc.config.levers import LEVERS, refusal
from videosvc.config.models import load_model, load_models
from videosvc.config.settings import config_dir
from videosvc.families.checks import tiny_decoder_refusal

app = typer.Typer(help="Models: list, check a checkpoint.")


@app.command("list")
def list_models() -> None:
    """List the models."""
    table = Table("name", "family", "sizes", "fps", "max seconds", "path", box=None, pad_edge=False)
    for entry in load_models(config_dir()).values():
        numbers = (f"{entry.fps}", f"{entry.max_seconds:g}")
        table.add_row(entry.name, entry.family, " ".join(entry.sizes), *numbers, entry.path)
    Console().print(table)


@app.command()
def check(
    target: Annotated[str, typer.Argument(metavar="PATH_OR_NAME", help="A folder, or a model's name.")],
) -> None:
    """Check that a checkpoint is whole, and say which levers it can take."""
    folder = config_dir()
    if target not in load_models(folder) and Path(target).is_dir():
        found = inspect_folder(Path(target).resolve().name, Path(target))
    else:
        found = inspect_entry(load_model(folder, target))
    typer.echo(f"{found.name}: {found.folder} is whole")
    typer.echo(f"family {found.family}: {found.transformer} and {found.vae}")
    typer.echo(f"weights: {found.weight_bytes / 1e6:.1f} MB, hash {found.model_hash[:12]}")
    for lever, values in LEVERS.items():
        for value in values:
            line = refusal(found.family, lever, value)
            if line is None and (lever, value) == ("decode", "tiny"):
                line = tiny_decoder_refusal(found.name, found.folder)
            if line is None:
                line = f"lever {lever}={value!r} is supported"
                if lever == "weights" and (saved := storage_only_here(value)):
                    line += f": {saved}"
            typer.echo(line)

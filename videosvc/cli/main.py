"""`videosvc`: the commands, and how their failures are told: one line on stderr and an exit code.

Exit codes: 0 done; 2 bad input; 3 refused by a cap; 4 failed while running; 130 interrupted.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import TyperException

from videosvc import __version__
from videosvc.cli import jobs, keys, models, presets
from videosvc.cli.bench import bench
from videosvc.cli.calibrate import calibrate
from videosvc.cli.doctor import doctor
from videosvc.cli.generate import generate
from videosvc.cli.quote import quote
from videosvc.cli.serve import serve
from videosvc.cli.tune import tune
from videosvc.cli.worker import worker
from videosvc.errors import GenerationError, UserError

INTERRUPTED = 130  # 128 + SIGINT, as shells have it

# Fields of a request whose option is not "--" and the field's name.
OPTIONS = {
    "prompt": "PROMPT",
    "output": "-o",
    "max_cost_usd": "--max-cost",
    "max_compute_seconds": "--max-compute",
    "deadline_seconds": "--deadline",
}

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, help="Text to video on your own device."
)
app.command()(generate)
app.command()(quote)
app.command()(calibrate)
app.command()(tune)
app.command()(bench)
app.command()(serve)
app.command()(worker)
app.add_typer(jobs.app, name="jobs")
app.add_typer(keys.app, name="keys")
app.add_typer(presets.app, name="presets")
app.add_typer(models.app, name="models")
app.command()(doctor)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Text to video on your own device."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script's entry: runs one command and exits the process."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(words or ["--help"]))


def run(words: list[str]) -> int:
    """Runs one command and returns its exit code."""
    try:
        # Outside standalone mode typer hands back an Exit's code, and None if a command came to its end.
        code = app(words, prog_name="videosvc", standalone_mode=False) or 0
    except TyperException as error:
        return _fail("error", error.format_message(), 2)
    except UserError as error:
        return _fail("error", _with_option(error), error.exit_code)
    except GenerationError as error:
        return _fail("failed", str(error), error.exit_code)
    except OSError as error:  # a full disk, a pipe that closed: no bug of ours, so no traceback
        return _fail("failed", str(error), GenerationError.exit_code)
    except Exception:
        traceback.print_exc()
        return _fail("failed", "this is a bug in videosvc; please report it with the lines above", 4)
    if code == INTERRUPTED:
        return _fail("interrupted", "nothing was written", INTERRUPTED)
    return int(code)


def _with_option(error: UserError) -> str:
    """The message, with the option in place of the field that it begins with."""
    field, colon, rest = error.message.partition(": ")
    if field != error.param or not colon or field.isupper():  # capitals are an environment variable
        return error.message
    return f"{OPTIONS.get(field, '--' + field.replace('_', '-'))}: {rest}"


def _fail(kind: str, message: str, code: int) -> int:
    line = " ".join(message.split())
    print(f"{kind}: {line}", file=sys.stderr)
    return code

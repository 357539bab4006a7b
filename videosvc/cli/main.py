"""`videosvc`: the commands, and how their failures are told: one line on stderr and an exit code.

Exit codes: 0 done; 2 bad input; 3 refused by a cap; 4 failed while running; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from typer.exceptions import TyperException
from typer.main import get_command

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
from videosvc.config.settings import ENV_PREFIX, Settings
from videosvc.errors import GenerationError, UserError

if TYPE_CHECKING:
    from sqlalchemy.exc import SQLAlchemyError

INTERRUPTED = 130  # 128 + SIGINT, as shells have it

# Fields of a request whose option is not "--" and the field's name.
OPTIONS = {
    "prompt": "PROMPT",
    "output": "-o",
    "max_cost_usd": "--max-cost",
    "max_compute_seconds": "--max-compute",
    "deadline_seconds": "--deadline",
}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help="Text to video on your own device.")
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
        return _fail("error", _with_option(error, words), error.exit_code)
    except GenerationError as error:
        return _fail("failed", str(error), error.exit_code)
    except OSError as error:  # a full disk, a pipe that closed: no bug of ours, so no traceback
        return _fail("failed", str(error), GenerationError.exit_code)
    except Exception as error:
        from sqlalchemy.exc import SQLAlchemyError  # here, as most commands need no database

        if isinstance(error, SQLAlchemyError):
            return _fail_of_database(error)
        traceback.print_exc()
        return _fail("failed", "this is a bug in videosvc; please report it with the lines above", 4)
    if code == INTERRUPTED:
        return _fail("interrupted", "nothing was written", INTERRUPTED)
    return int(code)


def _with_option(error: UserError, words: Sequence[str]) -> str:
    """The message, with what the user can change in place of the field or the variable that it begins with.

    That is the option if it was given; else the variable if that was set; else the option if the command of `words` has
    one, or the variable.
    """
    name, colon, rest = error.message.partition(": ")
    field = _field(name)
    if not colon or field != _field(error.param or ""):
        return error.message
    option, variable = OPTIONS.get(field, "--" + field.replace("_", "-")), ENV_PREFIX + field.upper()
    known = _options(words)
    takes_option, is_setting = option in known or field in known, field in Settings.model_fields
    given = any(word.partition("=")[0] == option for word in words)
    if takes_option and (given or not (is_setting and variable in os.environ)):
        return f"{option}: {rest}"
    return f"{variable}: {rest}" if is_setting else error.message


def _field(name: str) -> str:
    return name.removeprefix(ENV_PREFIX).lower() if name.startswith(ENV_PREFIX) else name


def _options(words: Sequence[str]) -> set[str]:
    """Of the command that `words` begin with: options, and the names of its arguments."""
    command = get_command(app)
    for word in words:
        command = getattr(command, "commands", {}).get(word, command)
    return {option for parameter in command.params for option in parameter.opts}


def _fail_of_database(error: SQLAlchemyError) -> int:
    from videosvc.cli.database_problem import is_of_url, reason

    line = f"{ENV_PREFIX}DATABASE_URL: the database does not answer: {reason(error)}"
    return _fail("error", line, 2) if is_of_url(error) else _fail("failed", line, GenerationError.exit_code)


def _fail(kind: str, message: str, code: int) -> int:
    line = " ".join(message.split())
    print(f"{kind}: {line}", file=sys.stderr)
    return code
